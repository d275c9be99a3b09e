//! One nats-server.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::user::Passwords;
use crate::{Process, wait_for};

const READY: Duration = Duration::from_secs(120);
/// Below the ports that the kernel gives to connections, so that a server finds its port free when it starts again.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// The address that a server tells the others if they are to come by the routes alone that they were given.
const NOWHERE: &str = "127.0.0.1:1";

/// What a server needs to start, each time.
pub(super) struct Launch {
    pub(super) name: String,
    pub(super) binary: PathBuf,
    pub(super) config: PathBuf,
    /// The folder for data and log.
    pub(super) folder: PathBuf,
    pub(super) passwords: Passwords,
    pub(super) port: u16,
    /// The port for the other servers of the cluster, their addresses, and whether they can't tell each other of better
    /// ones. None: the server stands alone.
    pub(super) cluster: Option<(u16, String, bool)>,
}

impl Launch {
    fn launch(&self) -> Result<Process> {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.config).args(["--server_name", &self.name]);
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string()]);
        if let Some((port, routes, fixed)) = &self.cluster {
            let listen = format!("nats://127.0.0.1:{port}");
            command.args(["--cluster_name", "hookwright", "--cluster", &listen, "--routes", routes]);
            if *fixed {
                command.args(["--cluster_advertise", NOWHERE]);
            }
        }
        command.env("NATS_STORE", self.folder.join("store"));
        self.passwords.give_to(&mut command);
        Process::spawn(&self.name, &command, &self.folder.join("nats.log"))
    }
}

/// A nats-server. It keeps its ports and its streams over restarts.
pub struct NatsServer {
    process: Mutex<Process>,
    launch: Launch,
}

impl NatsServer {
    /// Starts a server, which is not ready yet.
    pub(super) fn spawn(launch: Launch) -> Result<Self> {
        std::fs::create_dir_all(&launch.folder)?;
        Ok(Self { process: Mutex::new(launch.launch()?), launch })
    }

    /// Waits until the server accepts connections.
    pub(super) async fn wait_ready(&self) -> Result<()> {
        wait_for(&format!("{} to be ready", self.launch.name), READY, async || {
            let process = self.process();
            if let Err(error) = process.check_running() {
                return Ok(Err(error));
            }
            if process.logs().contains("Server is ready") { Ok(Ok(())) } else { bail!("{}", process.log_tail()) }
        })
        .await?
    }

    /// The server's name, by which the cluster knows it.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.launch.port)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process().id()
    }

    /// Kills the server (SIGKILL).
    pub fn kill9(&self) -> Result<()> {
        self.process().kill9()
    }

    /// Asks the server to end (SIGTERM) and waits for that.
    pub async fn terminate(&self) -> Result<()> {
        self.process().signal(Signal::TERM)?;
        wait_for(&format!("{} to end", self.launch.name), READY, async || {
            anyhow::ensure!(self.process().check_running().is_err(), "it is running");
            Ok(())
        })
        .await
    }

    /// Starts the server again, on the same ports with the same data, and waits until it accepts connections. A server
    /// that still runs is killed first.
    pub async fn restart(&self) -> Result<()> {
        self.spawn_again()?;
        self.wait_ready().await
    }

    /// The same without the wait.
    pub(super) fn spawn_again(&self) -> Result<()> {
        let mut process = self.process();
        process.kill9()?;
        *process = self.launch.launch()?;
        Ok(())
    }

    /// Pauses the server without its knowledge (SIGSTOP). To others it is as if the network to it were cut.
    pub fn freeze(&self) -> Result<()> {
        self.process().signal(Signal::STOP)
    }

    /// Lets the server go on after [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.process().signal(Signal::CONT)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port on which nothing listens.
pub(super) fn free_port() -> Result<u16> {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut candidates = std::iter::repeat_with(|| rand::random_range(PORTS)).take(100);
    candidates.find(free).context("no free port on 127.0.0.1")
}
