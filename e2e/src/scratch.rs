//! A folder that goes away with its owner, also when the owner is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::process;

/// A fresh folder in the system's temporary folder. A small child process removes it when this value, or the whole
/// process, ends: values in a `static` are never dropped. `HOOKWRIGHT_KEEP` in the environment keeps it.
pub struct Scratch {
    path: PathBuf,
    janitor: Option<Child>,
}

impl Scratch {
    /// Makes the folder.
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("hookwright-{:08x}", rand::random::<u32>()));
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        let janitor = match std::env::var_os("HOOKWRIGHT_KEEP") {
            Some(_) => None,
            None => Some(janitor(&path)?),
        };
        Ok(Self { path, janitor })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(mut janitor) = self.janitor.take() {
            drop(janitor.stdin.take());
            // It removes the folder whether or not we see it end.
            let _ = janitor.wait();
        }
    }
}

/// Waits for its standard input to close and removes the folder; servers that die at the same moment may still write,
/// so it tries again.
fn janitor(path: &Path) -> Result<Child> {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"cat >/dev/null; for _ in 1 2 3 4 5; do rm -rf "$1" && exit; sleep 0.2; done"#, "janitor"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    process::spawn(command)
}
