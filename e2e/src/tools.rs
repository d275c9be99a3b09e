//! Finds the servers and command lines.

use std::ffi::OsString;
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
    /// The demo does without kube-controller-manager, kstatus, Node.js and Java, which take long to build or to install.
    Demo,
}

/// The servers, command lines and libraries that `make tools` prepares.
#[derive(Clone, Debug)]
pub struct Tools {
    whom: Use,
    bin: PathBuf,
    python: PathBuf,
    receivers: Option<Receivers>,
}

/// The libraries of receivers in other languages than Python.
#[derive(Clone, Debug)]
pub struct Receivers {
    /// A `node_modules` with `standardwebhooks` and `cloudevents`.
    pub node_modules: PathBuf,
    /// The program of `tools/receivers/go`.
    pub go: PathBuf,
    /// The class path of `tools/receivers/java`.
    pub java: OsString,
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
        let lines = script("receivers.sh", demo).await?;
        let line = |name: &str| -> Option<PathBuf> {
            Some(lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?.into())
        };
        let printed = |name: &str| line(name).with_context(|| format!("tools/receivers.sh printed no {name}"));
        let receivers = || {
            let (node_modules, go) = (printed("node_modules")?, printed("go")?);
            anyhow::Ok(Receivers { node_modules, go, java: printed("java")?.into() })
        };
        let receivers = (whom == Use::Tests).then(receivers).transpose()?;
        Ok(Self { whom, python: printed("python")?, receivers, bin })
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

    /// The libraries of receivers in other languages than Python.
    pub fn receivers(&self) -> Result<&Receivers> {
        self.receivers.as_ref().context("these are the demo's tools, for receivers in Python alone")
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
