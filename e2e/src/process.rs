//! Child processes that don't outlive this one.
//!
//! Each child is started through `setpriv --pdeathsig KILL`: the kernel kills it when its parent dies. "Parent" means
//! the *thread* that forked, and a test's threads end before the test binary does. So one thread that lives as long as
//! the process starts all children. Each child is in a process group of its own: Ctrl-C reaches the demo, which stops
//! the others.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait_for;

type Job = (Command, mpsc::Sender<std::io::Result<Child>>);

/// A running child. Its output is appended to a log file.
pub struct Process {
    name: String,
    log: PathBuf,
    /// The position in the log at which the output of this start begins.
    log_start: u64,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command` and appends its output and its errors to `log`. Standard input is a pipe that closes with this
    /// process.
    pub fn spawn(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let log_start = file.metadata()?.len();
        let mut guarded = die_with_us(command);
        guarded.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
        let child = spawn(guarded).with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), log_start, child: Mutex::new(child) })
    }

    /// The output of the child since this start.
    pub fn logs(&self) -> String {
        match read_from(&self.log, self.log_start) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("({}: {error})", self.log.display()),
        }
    }

    /// The last lines of the log, for a failure's message.
    pub fn log_tail(&self) -> String {
        let logs = self.logs();
        let lines: Vec<&str> = logs.lines().collect();
        format!("the end of {}:\n{}", self.log.display(), lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// Returns an error with the end of the log if the child has exited.
    pub fn check_running(&self) -> Result<()> {
        match self.child().try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} exited: {status}; {}", self.name, self.log_tail()),
        }
    }

    /// Kills the child, as a crash would (SIGKILL).
    pub fn kill9(&self) -> Result<()> {
        let mut child = self.child();
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks the child to end (SIGTERM) and waits for that.
    pub async fn terminate(&self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        wait_for(&format!("{} to end", self.name), deadline, async || self.child().try_wait()?.context("it is running"))
            .await
    }

    /// Sends a signal, such as SIGSTOP and SIGCONT.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        if child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&child), signal)?;
        }
        Ok(())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child that has ended already needs nothing more.
        let _ = self.kill9();
    }
}

/// Reads a file from this position on.
pub(crate) fn read_from(path: &Path, position: u64) -> std::io::Result<Vec<u8>> {
    let (mut file, mut text) = (File::open(path)?, Vec::new());
    file.seek(SeekFrom::Start(position))?;
    file.read_to_end(&mut text)?;
    Ok(text)
}

/// Wraps a command so that the kernel kills it when the thread that starts it dies.
fn die_with_us(command: &Command) -> Command {
    let mut guarded = Command::new("setpriv");
    guarded.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        guarded.current_dir(folder);
    }
    std::os::unix::process::CommandExt::process_group(&mut guarded, 0);
    guarded
}

pub(crate) fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let jobs = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in queue {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    let (reply, answer) = mpsc::channel();
    jobs.lock().unwrap_or_else(PoisonError::into_inner).send((command, reply))?;
    answer.recv()?.context("setpriv (util-linux) could not be started")
}
