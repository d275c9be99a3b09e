//! The receiver: a Python program that knows nothing about Hookwright except the secret.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hookwright_e2e::{Process, World, wait_for, workspace};
use serde::Deserialize;

use crate::done;

const LISTENING: &str = "listening on ";

/// A webhook as the receiver wrote it down.
#[derive(Debug, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) id: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) verified: bool,
    pub(crate) problem: Option<String>,
    pub(crate) body: String,
}

/// A running `tools/receivers/receiver.py` on a free port.
pub(crate) struct PythonReceiver {
    process: Process,
    url: String,
    secret: PathBuf,
    record: PathBuf,
}

impl PythonReceiver {
    pub(crate) async fn start(world: &World) -> Result<Self> {
        let start = Instant::now();
        let (secret, record) = (world.folder().join("receiver.secret"), world.folder().join("receiver.jsonl"));
        let mut command = Command::new(world.tools.python());
        command.arg(workspace().join("tools/receivers/receiver.py")).arg("0").arg(&secret).arg(&record);
        let process = Process::spawn("the receiver", &command, &world.folder().join("receiver.log"))?;
        let url = wait_for("the receiver to listen", Duration::from_secs(20), async || {
            if let Err(error) = process.check_running() {
                return Ok(Err(error));
            }
            let logs = process.logs();
            let (_, rest) = logs.split_once(LISTENING).context("it said nothing")?;
            let (url, _) = rest.split_once('\n').context("half a line")?;
            Ok(Ok(url.to_owned()))
        })
        .await??;
        done("receiver listens", start.elapsed());
        Ok(Self { process, url, secret, record })
    }

    /// The URL to which webhooks are sent.
    pub(crate) fn url(&self) -> String {
        format!("{}/webhooks", self.url)
    }

    /// Hands the secret to the receiver, as a person would copy it.
    pub(crate) fn give_secret(&self, secret: &str) -> Result<()> {
        Ok(std::fs::write(&self.secret, secret)?)
    }

    /// The webhooks that have arrived so far.
    pub(crate) fn arrivals(&self) -> Result<Vec<Arrival>> {
        let text = match std::fs::read_to_string(&self.record) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).context("the receiver's record")).collect()
    }

    /// Prints the receiver's log from now on, for as long as the receiver runs.
    pub(crate) async fn follow(&self) -> Result<()> {
        let mut printed = self.process.logs().len();
        loop {
            self.process.check_running()?;
            let logs = self.process.logs();
            let end = logs.rfind('\n').map_or(printed, |end| end + 1);
            print!("{}", logs.get(printed..end).unwrap_or_default());
            printed = printed.max(end);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
