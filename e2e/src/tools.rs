//! Where the servers and command lines are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The root of this checkout.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The servers, command lines and libraries that `make tools` prepares.
#[derive(Clone, Debug)]
pub struct Tools {
    bin: PathBuf,
    python: PathBuf,
    node_modules: PathBuf,
}

impl Tools {
    /// Finds all of them, and builds or installs what isn't there.
    pub async fn locate() -> Result<Self> {
        let bin = PathBuf::from(script("build.sh", &["--print-bin"]).await?.trim());
        let receivers = script("receivers.sh", &[]).await?;
        let line = |name: &str| -> Result<PathBuf> {
            let found = receivers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            Ok(found.with_context(|| format!("tools/receivers.sh printed no {name}"))?.into())
        };
        Ok(Self { python: line("python")?, node_modules: line("node_modules")?, bin })
    }

    /// The folder with a link to each server and command line.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// One of them: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kubectl`, `nats-server`, `nats`, `kstatus`.
    pub fn tool(&self, name: &str) -> Result<PathBuf> {
        let path = self.bin.join(name);
        if !path.exists() {
            bail!("{name} is missing: run `make tools`");
        }
        Ok(path)
    }

    /// A Python with `standardwebhooks` and `cloudevents`.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// A `node_modules` with `standardwebhooks`.
    pub fn node_modules(&self) -> &Path {
        &self.node_modules
    }
}

async fn script(name: &str, args: &[&str]) -> Result<String> {
    let path = workspace().join("tools").join(name);
    let output = Command::new(&path)
        .args(args)
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("run {}", path.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("tools/{name} failed; `make tools` shows it too:\n{said}");
    }
    String::from_utf8(output.stdout).with_context(|| format!("what tools/{name} printed"))
}

/// A binary of this workspace, from the target folder that the running executable is in.
pub fn workspace_binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this executable is")?;
    own.ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built: run `cargo build --workspace`"))
}
