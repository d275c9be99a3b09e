//! Writes the CustomResourceDefinitions to `crds/yaml`, or to the directory given as the only argument.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let dir = std::env::args_os().nth(1).map_or_else(default, PathBuf::from);
    std::fs::create_dir_all(&dir)?;
    for (name, content) in hookwright_crds::yaml::files()? {
        std::fs::write(dir.join(name), content)?;
    }
    Ok(())
}
