//! The operator or a dispatcher as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::http_get::http_get;
use crate::process::read_from;
use crate::settings::merge;
use crate::tools::workspace_binary;
use crate::{Process, wait_for};

const LISTENING: &str = "listening on http://";

/// How NATS begins to say that a user has no right to a subject. The client has no other sign of it: what is refused is
/// not answered.
const REFUSED: &str = "Permissions Violation";

/// A binary of this workspace that runs with a settings file and has an admin endpoint. A test fails if NATS has refused
/// something to it.
pub struct Component {
    name: String,
    binary: PathBuf,
    settings: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
    running: Mutex<Option<Arc<Process>>>,
    /// Up to where the log was looked through for refusals.
    looked_up_to: Mutex<u64>,
}

impl Component {
    /// Writes the settings to `folder/NAME.yaml` and starts `binary --config` with it. Its log is `folder/NAME.log`.
    pub(crate) fn spawn(
        folder: &Path,
        name: &str,
        binary: &str,
        settings: &Value,
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        let component = Self {
            name: name.to_owned(),
            binary: workspace_binary(binary)?,
            settings: folder.join(format!("{name}.yaml")),
            log: folder.join(format!("{name}.log")),
            environment,
            running: Mutex::new(None),
            looked_up_to: Mutex::new(0),
        };
        // JSON is YAML.
        std::fs::write(&component.settings, serde_json::to_string_pretty(settings)?)?;
        component.start()?;
        Ok(component)
    }

    /// Starts the binary again with the same settings. If it still runs, it is killed first.
    pub fn restart(&self) -> Result<()> {
        if let Ok(process) = self.process() {
            process.kill9()?;
        }
        self.start()
    }

    /// Changes the settings file by a JSON merge patch. The process reads it at its next start.
    pub fn configure(&self, patch: &Value) -> Result<()> {
        let mut settings = serde_json::from_str(&std::fs::read_to_string(&self.settings)?)?;
        merge(&mut settings, patch);
        Ok(std::fs::write(&self.settings, serde_json::to_string_pretty(&settings)?)?)
    }

    /// Kills the process (SIGKILL).
    pub fn kill9(&self) -> Result<()> {
        self.process()?.kill9()
    }

    /// Asks the process to end (SIGTERM) and waits for that, for up to two minutes.
    pub async fn terminate(&self) -> Result<ExitStatus> {
        self.process()?.terminate(Duration::from_secs(120)).await
    }

    /// Pauses the process without its knowledge (SIGSTOP), as a paused machine would.
    pub fn freeze(&self) -> Result<()> {
        self.process()?.signal(Signal::STOP)
    }

    /// Lets the process go on after [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.process()?.signal(Signal::CONT)
    }

    /// The output of the process since its last start.
    pub fn logs(&self) -> String {
        self.process().map(|process| process.logs()).unwrap_or_default()
    }

    /// The lines of the log with what NATS has refused to the process, over all its starts, since this was asked last.
    pub fn refused_by_nats(&self) -> Vec<String> {
        let mut position = self.looked_up_to.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a log nothing was ever started.
        let mut text = read_from(&self.log, *position).unwrap_or_default();
        // The rest of a line that is being written is for the next time.
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        *position += text.len() as u64;
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| line.contains(REFUSED)).map(str::to_owned).collect()
    }

    /// Fails if NATS has refused something to the process since this was asked last: the rights of its user are to be
    /// enough for all that it does. A test that fails already is not disturbed.
    pub fn check_rights(&self) {
        if std::thread::panicking() {
            return;
        }
        let refused = self.refused_by_nats();
        assert!(refused.is_empty(), "NATS has refused to the {}:\n{}", self.name, refused.join("\n"));
    }

    /// The process id.
    pub fn id(&self) -> Result<u32> {
        Ok(self.process()?.id())
    }

    /// Waits until `/readyz` answers 200.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        wait_for(&format!("{} to be ready", self.name), deadline, async || {
            let process = self.process()?;
            if let Err(error) = process.check_running() {
                return Ok(Err(error));
            }
            match self.get("/readyz").await {
                Ok((200, _)) => Ok(Ok(())),
                Ok((status, body)) => bail!("/readyz says {status} {}; {}", body.trim(), process.log_tail()),
                Err(error) => bail!("{error:#}; {}", process.log_tail()),
            }
        })
        .await?
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        match self.get("/metrics").await? {
            (200, body) => Ok(body),
            (status, body) => bail!("{}: /metrics says {status} {body}", self.name),
        }
    }

    /// Sends a GET to the admin endpoint and returns the status and the body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        http_get(self.admin()?, path).await
    }

    /// The address of the admin endpoint, as the log has it.
    pub fn admin(&self) -> Result<SocketAddr> {
        let logs = self.logs();
        let (_, rest) = logs.split_once(LISTENING).with_context(|| format!("{} listens on nothing yet", self.name))?;
        let address: String = rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        address.parse().with_context(|| format!("the address {address:?} in the log of {}", self.name))
    }

    fn process(&self) -> Result<Arc<Process>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.clone().with_context(|| format!("{} was never started", self.name))
    }

    fn start(&self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.settings);
        command.env_remove("KUBECONFIG").envs(self.environment.iter().cloned());
        let process = Process::spawn(&self.name, &command, &self.log)?;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(process));
        Ok(())
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.check_rights();
    }
}
