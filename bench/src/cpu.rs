//! Measures the CPU time of processes over spans of time that are known only afterwards.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::event::now;

const EVERY: Duration = Duration::from_millis(5);

/// A process whose CPU time is measured.
#[derive(Clone)]
pub(crate) struct Watched {
    name: &'static str,
    clock: ClockId,
}

impl Watched {
    /// Watches a process. The CPU times of processes with the same name are added up.
    pub(crate) fn new(name: &'static str, pid: u32) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(pid)?);
        Ok(Self { name, clock: clock_getcpuclockid(pid).with_context(|| format!("the CPU clock of {name}"))? })
    }

    /// The CPU time that the process has used; `None` if it has ended.
    fn used(&self) -> Option<Duration> {
        self.clock.now().ok().map(Duration::from)
    }
}

/// Takes samples until it is stopped.
pub(crate) struct Recorder {
    stop: CancellationToken,
    task: JoinHandle<CpuLog>,
}

impl Recorder {
    pub(crate) fn start(watched: Vec<Watched>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(record(watched, stop.clone()));
        Self { stop, task }
    }

    pub(crate) async fn stop(self) -> Result<CpuLog> {
        self.stop.cancel();
        self.task.await.context("the recorder of CPU times panicked")
    }
}

async fn record(watched: Vec<Watched>, stop: CancellationToken) -> CpuLog {
    let mut log = CpuLog { names: watched.iter().map(|one| one.name).collect(), samples: Vec::new() };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = vec![Duration::ZERO; watched.len()];
    loop {
        let stopped = stop.run_until_cancelled(ticks.tick()).await.is_none();
        for (last, one) in last.iter_mut().zip(&watched) {
            *last = one.used().unwrap_or(*last);
        }
        log.samples.push((now(), last.clone()));
        if stopped {
            return log;
        }
    }
}

/// The CPU time that each process had used, at certain moments.
pub(crate) struct CpuLog {
    names: Vec<&'static str>,
    samples: Vec<(u64, Vec<Duration>)>,
}

impl CpuLog {
    /// The CPU time that the processes of this name used between two moments (nanoseconds since 1970).
    pub(crate) fn used(&self, name: &str, from: u64, until: u64) -> Duration {
        let of = |index: usize| self.at(index, until).saturating_sub(self.at(index, from));
        (0..self.names.len()).filter(|index| self.names[*index] == name).map(of).sum()
    }

    /// The CPU time at a moment between two samples, as if it had been used evenly.
    fn at(&self, process: usize, moment: u64) -> Duration {
        let next = self.samples.partition_point(|(at, _)| *at < moment);
        let value = |index: usize| self.samples.get(index).map(|(at, used)| (*at, used[process]));
        match (next.checked_sub(1).and_then(value), value(next)) {
            (Some((from, before)), Some((until, after))) => {
                let share = (moment - from) as f64 / (until - from).max(1) as f64;
                before + after.saturating_sub(before).mul_f64(share)
            }
            (Some((_, only)), None) | (None, Some((_, only))) => only,
            (None, None) => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_samples_it_is_used_evenly() {
        let seconds = Duration::from_secs;
        let log = CpuLog {
            names: vec!["a", "b", "a"],
            samples: vec![
                (100, vec![seconds(1), seconds(0), seconds(7)]),
                (200, vec![seconds(3), seconds(1), seconds(7)]),
            ],
        };
        assert_eq!(log.used("a", 100, 150), seconds(1));
        assert_eq!(log.used("a", 0, 900), seconds(2));
        assert_eq!(log.used("b", 125, 175), Duration::from_millis(500));
    }

    #[tokio::test]
    async fn this_process_uses_some() {
        let recorder = Recorder::start(vec![Watched::new("me", std::process::id()).unwrap()]);
        let start = now();
        while now() - start < 50_000_000 {
            std::hint::black_box(crate::event::write(1, 4096));
            tokio::task::yield_now().await;
        }
        let used = recorder.stop().await.unwrap().used("me", start, now());
        assert!(used > Duration::from_millis(10), "{used:?}");
    }
}
