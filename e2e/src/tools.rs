//! Finds the servers and command lines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The root of this checkout.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Who uses the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Tests use all of them.
    Tests,
    /// The demo does without kube-controller-manager, kstatus and Node.js, which take long to build or to install.
    Demo,
}

/// The servers, command lines and libraries that `make tools` prepares.
#[derive(Clone, Debug)]
pub struct Tools {
    whom: Use,
    bin: PathBuf,
    python: PathBuf,
    node_modules: Option<PathBuf>,
}

impl Tools {
    /// Finds all tools, and builds or installs those that are missing.
    pub async fn locate() -> Result<Self> {
        Self::locate_for(Use::Tests).await
    }

    /// Finds the tools for this use, and builds or installs those that are missing.
    pub async fn locate_for(whom: Use) -> Result<Self> {
        let demo: &[&str] = if whom == Use::Demo { &["--demo"] } else { &[] };
        let bin = PathBuf::from(script("build.sh", &[&["--print-bin"], demo].concat()).await?.trim());
        let receivers = script("receivers.sh", demo).await?;
        let line = |name: &str| -> Option<PathBuf> {
            Some(receivers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?.into())
        };
        let python = line("python").context("tools/receivers.sh printed no python")?;
        Ok(Self { whom, python, node_modules: line("node_modules"), bin })
    }

    /// The folder with a link to each server and command line.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Who uses the tools.
    pub fn whom(&self) -> Use {
        self.whom
    }

    /// Whether kube-controller-manager is among the tools.
    pub fn has_controllers(&self) -> bool {
        self.whom == Use::Tests
    }

    /// The path of a tool: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kubectl`, `nats-server`, `nats` or
    /// `kstatus`.
    pub fn tool(&self, name: &str) -> Result<PathBuf> {
        let path = self.bin.join(name);
        if !path.exists() {
            bail!("{name} is missing: run `make tools`");
        }
        Ok(path)
    }

    /// The path of a Python with `standardwebhooks` and `cloudevents`.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// The path of a `node_modules` with `standardwebhooks`.
    pub fn node_modules(&self) -> Result<&Path> {
        self.node_modules.as_deref().context("these are the demo's tools, without Node.js")
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

/// The path of a binary of this workspace, in the target folder that the running executable is in.
pub fn workspace_binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this executable is")?;
    own.ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built: run `cargo build --workspace`"))
}
