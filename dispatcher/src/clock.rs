//! The time, by this machine's clock or the NATS server's.
//!
//! The server decides when a delivery is due, and receivers refuse a `webhook-timestamp` that is minutes off. So the
//! dispatcher compares this machine's wall clock with the time in a reply of JetStream, at the start and every minute.
//! While the difference is at most [`TOLERATED`], the time is the wall clock's. Beyond that, it is the server's. Beyond
//! [`HOPELESS`], and before the first comparison, the dispatcher reads nothing and is not ready, because something is
//! wrong with this machine.
//!
//! From one comparison to the next the time goes on by the monotonic clock, so that no step of the wall clock cuts a
//! deadline short. The monotonic clock stands still while the machine is suspended; the next comparison makes up for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::context::RequestError;
use async_nats::jetstream::response::Response;
use hookwright_core::nats::names::PARKED_STREAM;
use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::Nats;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::watch;
use tracing::warn;

use crate::metrics::Metrics;

/// The largest difference at which the wall clock is used.
const TOLERATED: SignedDuration = SignedDuration::from_secs(5);
/// The largest difference at which the dispatcher works.
const HOPELESS: SignedDuration = SignedDuration::from_secs(60);
/// A variable of the environment that tests set to a duration, which is added to the wall clock.
const SHIFT: &str = "HOOKWRIGHT_TEST_CLOCK_SHIFT";
const EVERY: Duration = Duration::from_secs(60);
/// The wait after a failed comparison.
const RETRY: Duration = Duration::from_secs(2);

/// The clock that the whole dispatcher uses.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The duration that is added to the wall clock. It is zero except in tests.
    shift: SignedDuration,
    /// The start of the monotonic clock's count.
    origin: Instant,
    /// The time at `origin`, in microseconds since 1970, by the last comparison; by the wall clock before the first.
    time_at_origin: AtomicI64,
    /// Whether the dispatcher may work with this clock; `None` before the first comparison.
    usable: watch::Sender<Option<bool>>,
}

/// What follows from a comparison of the wall clock with the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Assessment {
    /// The time now.
    time: Timestamp,
    /// How far the server's clock is ahead of the wall clock.
    ahead: SignedDuration,
    /// Whether the time is the wall clock's.
    tolerated: bool,
    /// Whether the dispatcher may work.
    usable: bool,
}

/// Decides what follows if the clocks show these times at the same moment.
fn assess(wall: Timestamp, server: Timestamp) -> Assessment {
    let ahead = server.duration_since(wall);
    let tolerated = ahead.abs() <= TOLERATED;
    Assessment { time: if tolerated { wall } else { server }, ahead, tolerated, usable: ahead.abs() <= HOPELESS }
}

/// A span of the monotonic clock, in microseconds.
fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[derive(Debug, thiserror::Error)]
enum ClockError {
    #[error("no answer from JetStream")]
    NoAnswer(#[source] RequestError),
    #[error("JetStream refused to answer")]
    Refused(#[source] async_nats::jetstream::Error),
}

/// The only field of a reply that is read.
#[derive(Deserialize)]
struct Reply {
    ts: Timestamp,
}

impl Clock {
    /// # Errors
    /// If a test asks for a shift that can't be read.
    pub(crate) fn new() -> Result<Arc<Self>, jiff::Error> {
        let shift = std::env::var(SHIFT).map_or(Ok(SignedDuration::ZERO), |text| text.parse())?;
        Ok(Self::shifted(shift))
    }

    fn shifted(shift: SignedDuration) -> Arc<Self> {
        let (origin, usable) = (Instant::now(), watch::Sender::new(None));
        let clock = Self { shift, origin, time_at_origin: AtomicI64::new(0), usable };
        clock.set(clock.wall(), Duration::ZERO);
        Arc::new(clock)
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.at(self.origin.elapsed())
    }

    /// The time when the monotonic clock has counted this much since `origin`.
    fn at(&self, elapsed: Duration) -> Timestamp {
        let micros = self.time_at_origin.load(Ordering::Relaxed).saturating_add(micros(elapsed));
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }

    fn set(&self, time: Timestamp, elapsed: Duration) {
        self.time_at_origin.store(time.as_microsecond().saturating_sub(micros(elapsed)), Ordering::Relaxed);
    }

    #[expect(clippy::disallowed_methods, reason = "all other code reads the time here")]
    fn wall(&self) -> Timestamp {
        let system = Timestamp::now();
        system.checked_add(self.shift).unwrap_or(system)
    }

    /// Whether the dispatcher may work with this clock.
    pub(crate) fn is_usable(&self) -> bool {
        *self.usable.borrow() == Some(true)
    }

    /// Why the dispatcher may not work with this clock; `None` if it may.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match *self.usable.borrow() {
            None => Some("this machine's clock has not been compared with the NATS server's"),
            Some(false) => Some("this machine's clock is more than a minute off"),
            Some(true) => None,
        }
    }

    /// Waits until [`Self::is_usable`].
    pub(crate) async fn usable(&self) {
        // The sender is a field of `self`, so the channel stays open.
        let _ = self.usable.subscribe().wait_for(|usable| *usable == Some(true)).await;
    }

    /// Compares the clocks every [`EVERY`], for as long as the process runs.
    pub(crate) async fn keep(self: Arc<Self>, nats: Nats, metrics: Arc<Metrics>) {
        loop {
            let wait = match self.compare(&nats).await {
                Ok(ahead) => {
                    metrics.clock_offset.set(ahead.as_secs_f64());
                    EVERY
                }
                Err(error) => {
                    warn!(error = chain(&error), "can't compare the clock with the NATS server's; retrying");
                    RETRY
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks the server for its time and applies the difference. Returns how far the server's clock is ahead.
    async fn compare(&self, nats: &Nats) -> Result<SignedDuration, ClockError> {
        let before = Instant::now();
        let what = format!("STREAM.INFO.{}", nats.names.stream(PARKED_STREAM));
        let asked = nats.jetstream.request(what, &serde_json::json!({})).await;
        let (wall, elapsed) = (self.wall(), self.origin.elapsed());
        let Reply { ts } = match asked.map_err(ClockError::NoAnswer)? {
            Response::Ok(reply) => reply,
            Response::Err { error } => return Err(ClockError::Refused(error)),
        };
        // The server read its clock between the request and the reply.
        let server = ts.checked_add(before.elapsed() / 2).unwrap_or(ts);
        let assessment = assess(wall, server);
        self.apply(assessment, elapsed);
        Ok(assessment.ahead)
    }

    /// Goes by a comparison that was made when the monotonic clock had counted `elapsed`.
    fn apply(&self, Assessment { time, ahead, tolerated, usable }: Assessment, elapsed: Duration) {
        let moved = time.duration_since(self.at(elapsed));
        self.set(time, elapsed);
        if !tolerated {
            warn!(?ahead, usable, "this machine's clock is off; using the NATS server's time");
        } else if moved.abs() > TOLERATED {
            warn!(?moved, "the time has jumped: a clock was set, or this machine was suspended");
        }
        let usable = Some(usable);
        self.usable.send_if_modified(|current| std::mem::replace(current, usable) != usable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn assessments() {
        for (ahead, tolerated, usable) in [
            (0, true, true),
            (5, true, true),
            (-5, true, true),
            (6, false, true),
            (-60, false, true),
            (90, false, false),
            (-61, false, false),
        ] {
            let (wall, server) = (second(1_000), second(1_000 + ahead));
            let time = if tolerated { wall } else { server };
            let wanted = Assessment { time, ahead: SignedDuration::from_secs(ahead), tolerated, usable };
            assert_eq!(assess(wall, server), wanted, "{ahead}");
        }
    }

    /// Each row is a comparison: what the monotonic clock has counted, both clocks, whether the clock is usable then,
    /// and the time at a later count.
    #[test]
    fn between_comparisons_only_the_monotonic_clock_counts() {
        let clock = Clock::shifted(SignedDuration::ZERO);
        assert!(!clock.is_usable(), "the clocks have not been compared");
        for (counted, wall, server, usable, later, time) in [
            // The wall clock is right.
            (10, 1_000, 1_003, true, 40, 1_030),
            // It was set forward by 20 s: the server's time goes on.
            (70, 1_080, 1_063, true, 71, 1_064),
            // It was set right again.
            (130, 1_120, 1_123, true, 140, 1_130),
            // The machine slept for an hour, and the monotonic clock with it.
            (190, 4_780, 4_783, true, 190, 4_780),
            // It was set back by an hour.
            (250, 1_240, 4_843, false, 260, 4_853),
        ] {
            let counted = Duration::from_secs(counted);
            clock.apply(assess(second(wall), second(server)), counted);
            assert_eq!(clock.is_usable(), usable, "{wall}");
            assert_eq!(clock.at(Duration::from_secs(later)), second(time), "{wall}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test compares with the system's clock")]
    fn before_the_first_comparison_the_time_is_the_wall_clocks() {
        let shift = SignedDuration::from_secs(90);
        let off = Clock::shifted(shift).now().duration_since(Timestamp::now()) - shift;
        assert!(off.abs() < SignedDuration::from_secs(2), "{off:?}");
    }
}
