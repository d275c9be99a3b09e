//! Starts and stops dispatchers.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Lab;
use super::objects::metric;

/// The name under which dispatchers are watched.
pub(crate) const HOOKWRIGHT: &str = "hookwright";
const READY: Duration = Duration::from_secs(30);

impl Lab {
    /// Lets exactly this many dispatchers run. Those that stop finish the messages that they hold.
    pub(crate) async fn dispatch(&mut self, count: usize) -> Result<()> {
        while self.running.len() < count {
            self.world.add_dispatcher()?;
            self.running.push(true);
        }
        for (index, running) in self.running.iter_mut().enumerate() {
            let dispatcher = &self.world.dispatchers[index];
            match (*running, index < count) {
                (true, false) => {
                    dispatcher.terminate().await?;
                }
                (false, true) => dispatcher.restart()?,
                _ => {}
            }
            *running = index < count;
        }
        Ok(())
    }

    /// Lets exactly this many dispatchers run, and waits until they are ready.
    pub(crate) async fn dispatch_ready(&mut self, count: usize) -> Result<()> {
        self.dispatch(count).await?;
        for dispatcher in &self.world.dispatchers[..count] {
            dispatcher.wait_ready(READY).await?;
        }
        Ok(())
    }

    /// The process ids of the running dispatchers.
    pub(super) fn dispatcher_ids(&self) -> Result<Vec<u32>> {
        let running = self.world.dispatchers.iter().zip(&self.running).filter(|(_, running)| **running);
        running.map(|(dispatcher, _)| dispatcher.id()).collect()
    }

    /// The process id of the first dispatcher.
    pub(crate) fn first_dispatcher(&self) -> Result<u32> {
        self.world.dispatchers.first().context("a dispatcher")?.id()
    }

    /// How many attempts a dispatcher has made since it started.
    pub(crate) async fn attempts(&self, index: usize) -> Result<u64> {
        Ok(metric(&self.world.dispatchers[index].metrics().await?, "dispatcher_attempts_total{"))
    }

    /// How often the first dispatcher, since it started, has parked a delivery because its lane was full.
    pub(crate) async fn parks_of_full_lanes(&self) -> Result<u64> {
        Ok(metric(&self.world.dispatchers[0].metrics().await?, r#"dispatcher_parked_total{cause="lane""#))
    }

    /// Kills a dispatcher, which is not started again.
    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        self.running[index] = false;
        self.world.dispatchers[index].kill9()
    }
}

/// The resident memory of a process, in MiB.
pub(crate) fn resident_memory(pid: u32) -> Result<f64> {
    status_of(pid, "VmRSS:")
}

/// The most resident memory that a process ever had, in MiB.
pub(crate) fn peak_memory(pid: u32) -> Result<f64> {
    status_of(pid, "VmHWM:")
}

fn status_of(pid: u32, field: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the memory of a process")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
