//! A nats-server with JetStream.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Process, Publisher, Tools, Use, wait_for, workspace};

const READY: Duration = Duration::from_secs(60);

const CONFIG: &str = "nats.conf";

const SYNC: &str = "sync_interval: always";

/// The users of `deploy/nats.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The operator's user, which manages streams, consumers and buckets.
    Operator,
    /// The dispatchers' user, which reads events and stores what could not be delivered.
    Dispatcher,
    /// The user of applications, which publish events.
    App,
    /// The user that monitors the server itself.
    Sys,
}

impl User {
    const ALL: [Self; 4] = [Self::Operator, Self::Dispatcher, Self::App, Self::Sys];

    /// The user's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Dispatcher => "dispatcher",
            Self::App => "app",
            Self::Sys => "sys",
        }
    }

    /// The prefix of the user's inboxes, which are the only subjects that the restricted users may subscribe to.
    pub fn inbox_prefix(self) -> &'static str {
        match self {
            Self::Operator => "_INBOX_operator",
            Self::Dispatcher => "_INBOX_dispatcher",
            Self::App | Self::Sys => "_INBOX",
        }
    }
}

/// A nats-server with file storage and the rights of `deploy/nats.conf`. It keeps its port and its streams over
/// restarts.
pub struct NatsServer {
    process: Mutex<Process>,
    binary: PathBuf,
    folder: PathBuf,
    port: u16,
    passwords: [String; 4],
}

impl NatsServer {
    /// Starts a server whose data, passwords and log are in `folder`. `account_storage` limits the bytes that the
    /// account may keep in files.
    pub async fn start(tools: &Tools, folder: &Path, account_storage: Option<u64>) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(CONFIG), config(tools.whom(), account_storage)?)?;
        let binary = tools.tool("nats-server")?;
        // nats.conf reads a value that starts with a letter as a string.
        let passwords = User::ALL.map(|_| format!("p{:032x}", rand::random::<u128>()));
        for (user, password) in User::ALL.iter().zip(&passwords) {
            std::fs::write(password_file(folder, *user), password)?;
        }
        let process = launch(&binary, folder, &passwords, None)?;
        let port = listening_port(&process).await?;
        Ok(Self { process: Mutex::new(process), binary, folder: folder.to_owned(), port, passwords })
    }

    /// Kills the server (SIGKILL).
    pub fn kill9(&self) -> Result<()> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).kill9()
    }

    /// Starts the server again, on the same port with the same data, and waits until it accepts connections.
    pub async fn restart(&self) -> Result<()> {
        self.kill9()?;
        let process = launch(&self.binary, &self.folder, &self.passwords, Some(self.port))?;
        listening_port(&process).await?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = process;
        Ok(())
    }

    /// `nats://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The address with a user's name and password in it, as the `nats` CLI takes it.
    pub fn url_of(&self, user: User) -> String {
        format!("nats://{}:{}@127.0.0.1:{}", user.name(), self.password(user), self.port)
    }

    /// A user's password.
    pub fn password(&self, user: User) -> &str {
        &self.passwords[user as usize]
    }

    /// A file that holds a user's password.
    pub fn password_file(&self, user: User) -> PathBuf {
        password_file(&self.folder, user)
    }

    /// A connection as that user. It reconnects by itself.
    pub async fn connect(&self, user: User) -> Result<async_nats::Client> {
        async_nats::ConnectOptions::with_user_and_password(user.name().to_owned(), self.password(user).to_owned())
            .custom_inbox_prefix(user.inbox_prefix())
            .connect(self.url())
            .await
            .with_context(|| format!("connect to {} as {}", self.url(), user.name()))
    }

    /// JetStream as that user.
    pub async fn jetstream(&self, user: User) -> Result<async_nats::jetstream::Context> {
        Ok(async_nats::jetstream::new(self.connect(user).await?))
    }

    /// JetStream as [`User::App`], with which applications publish.
    pub async fn publisher(&self) -> Result<Publisher> {
        Ok(Publisher::new(self.jetstream(User::App).await?))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// The output of the server since its last start.
    pub fn logs(&self) -> String {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).logs()
    }
}

/// The text of `deploy/nats.conf` with this limit. Tests do without the sync of each write: they kill processes, not
/// machines, and a disk of a test machine takes milliseconds for each.
fn config(whom: Use, account_storage: Option<u64>) -> Result<String> {
    let mut config = std::fs::read_to_string(workspace().join("deploy/nats.conf"))?;
    if whom == Use::Tests {
        anyhow::ensure!(config.contains(SYNC), "deploy/nats.conf has no `{SYNC}` to leave out");
        config = config.replace(SYNC, "");
    }
    let Some(bytes) = account_storage else { return Ok(config) };
    let limited = config.replace("jetstream: enabled", &format!("jetstream: {{ max_file: {bytes} }}"));
    anyhow::ensure!(limited != config, "deploy/nats.conf has no `jetstream: enabled` to limit");
    Ok(limited)
}

fn password_file(folder: &Path, user: User) -> PathBuf {
    folder.join(format!("{}.password", user.name()))
}

fn launch(binary: &Path, folder: &Path, passwords: &[String; 4], port: Option<u16>) -> Result<Process> {
    let mut command = Command::new(binary);
    command.arg("--config").arg(folder.join(CONFIG));
    // A port of -1 lets the kernel pick one.
    command.args(["--addr", "127.0.0.1", "--port", &port.map_or_else(|| "-1".to_owned(), |port| port.to_string())]);
    command.env("NATS_STORE", folder.join("store"));
    for (user, password) in User::ALL.iter().zip(passwords) {
        command.env(format!("{}_PASSWORD", user.name().to_uppercase()), password);
    }
    Process::spawn("nats-server", &command, &folder.join("nats.log"))
}

async fn listening_port(process: &Process) -> Result<u16> {
    wait_for("nats-server to be ready", READY, async || {
        if let Err(error) = process.check_running() {
            return Ok(Err(error));
        }
        let logs = process.logs();
        if !logs.contains("Server is ready") {
            bail!("{}", process.log_tail());
        }
        let (_, rest) = logs.split_once("Listening for client connections on 127.0.0.1:").context("no port")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Ok(Ok(digits.parse()?))
    })
    .await?
}
