//! A folder that is removed with its owner, even if the owner is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::process;

/// A new folder in the system's temporary folder. A small child process removes it when this value is dropped or the
/// whole process ends, because values in a `static` are never dropped. If `HOOKWRIGHT_KEEP` is set in the environment,
/// the folder stays.
pub struct Scratch {
    path: PathBuf,
    janitor: Option<Child>,
}

impl Scratch {
    /// Creates the folder.
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("hookwright-{:08x}", rand::random::<u32>()));
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        let janitor = match std::env::var_os("HOOKWRIGHT_KEEP") {
            Some(_) => None,
            None => Some(janitor(&path)?),
        };
        Ok(Self { path, janitor })
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(mut janitor) = self.janitor.take() {
            drop(janitor.stdin.take());
            // The janitor removes the folder even if this process does not see it end.
            let _ = janitor.wait();
        }
    }
}

/// Starts a child that waits for its standard input to close and then removes the folder. Servers that die at the same
/// moment may still write, so it tries several times.
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
