//! Compares the CustomResourceDefinitions with those of an earlier release, whose YAML files are in a folder, and fails
//! if they have become tighter. Usage: `hookwright-crds-compat OLD-FOLDER`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

use std::path::Path;
use std::process::ExitCode;

use hookwright_crds::compat::tightenings;
use hookwright_crds::yaml;
use serde_json::Value;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: hookwright-crds-compat OLD-FOLDER");
        return ExitCode::from(2);
    };
    match check(Path::new(&folder)) {
        Ok(found) if found.is_empty() => {
            println!("The CRDs admit everything that they admitted before.");
            ExitCode::SUCCESS
        }
        Ok(found) => {
            found.iter().for_each(|tightening| eprintln!("{tightening}"));
            eprintln!("A CRD never tightens between releases, because stored objects would become invalid.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn check(folder: &Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let current: Vec<Value> = yaml::definitions()?.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let old: Value = serde_saphyr::from_str(&std::fs::read_to_string(file?.path())?)?;
        let name = &old["metadata"]["name"];
        match current.iter().find(|new| new["metadata"]["name"] == *name) {
            Some(new) => found.extend(tightenings(&old, new).into_iter().map(|text| format!("{name} {text}"))),
            None => found.push(format!("{name}: the kind is gone")),
        }
    }
    Ok(found)
}
