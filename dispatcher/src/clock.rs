//! The wall clock, compared with the NATS server's clock.
//!
//! The server decides when a delivery is due, and receivers refuse a `webhook-timestamp` that is minutes off. So the
//! dispatcher compares this machine's clock with the time in a reply of JetStream, at the start and every minute. While
//! the difference is at most [`TOLERATED`], the clock is used as it is. Beyond that, the server's time is used. Beyond
//! [`HOPELESS`], and before the first comparison, the dispatcher reads nothing and is not ready, because something is
//! wrong with this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::RequestError;
use async_nats::jetstream::response::Response;
use hookwright_core::nats::names::PARKED_STREAM;
use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::Nats;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::metrics::Metrics;

/// The largest difference at which the clock is used as it is.
const TOLERATED: SignedDuration = SignedDuration::from_secs(5);
/// The largest difference at which the dispatcher works.
const HOPELESS: SignedDuration = SignedDuration::from_secs(60);
/// A variable of the environment that tests set to a duration, which is added to the system's clock.
const SHIFT: &str = "HOOKWRIGHT_TEST_CLOCK_SHIFT";
const EVERY: Duration = Duration::from_secs(60);
/// The wait after a failed comparison.
const RETRY: Duration = Duration::from_secs(2);

/// The clock that the whole dispatcher uses.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The duration that is added to the system's clock. It is zero except in tests.
    shift: SignedDuration,
    /// The correction in milliseconds, which is added to the shifted clock. It is zero while the clock is tolerated.
    correction: AtomicI64,
    /// Whether the dispatcher may work with this clock; `None` before the first comparison.
    usable: watch::Sender<Option<bool>>,
}

/// The consequences of the difference between the server's clock and this machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Assessment {
    correction: SignedDuration,
    usable: bool,
}

/// Decides what follows if the server's clock is `ahead` of this machine's.
fn assess(ahead: SignedDuration) -> Assessment {
    let off = ahead.abs();
    let correction = if off > TOLERATED { ahead } else { SignedDuration::ZERO };
    Assessment { correction, usable: off <= HOPELESS }
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
        Arc::new(Self { shift, correction: AtomicI64::new(0), usable: watch::Sender::new(None) })
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        let correction = SignedDuration::from_millis(self.correction.load(Ordering::Relaxed));
        let own = self.own();
        own.checked_add(correction).unwrap_or(own)
    }

    #[expect(clippy::disallowed_methods, reason = "all other code reads the time here")]
    fn own(&self) -> Timestamp {
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
        let before = self.own();
        let asked = nats.jetstream.request(format!("STREAM.INFO.{PARKED_STREAM}"), &serde_json::json!({})).await;
        let after = self.own();
        let Reply { ts } = match asked.map_err(ClockError::NoAnswer)? {
            Response::Ok(reply) => reply,
            Response::Err { error } => return Err(ClockError::Refused(error)),
        };
        // The server read its clock between these two moments.
        let ahead = ts.duration_since(before) - after.duration_since(before) / 2;
        self.apply(assess(ahead), ahead);
        Ok(ahead)
    }

    fn apply(&self, assessment: Assessment, ahead: SignedDuration) {
        let correction = i64::try_from(assessment.correction.as_millis()).unwrap_or_default();
        let before = self.correction.swap(correction, Ordering::Relaxed);
        if correction != 0 {
            warn!(?ahead, usable = assessment.usable, "this machine's clock is off; using the NATS server's time");
        } else if before != 0 {
            info!("this machine's clock is right again");
        }
        let usable = Some(assessment.usable);
        self.usable.send_if_modified(|current| std::mem::replace(current, usable) != usable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assessments() {
        for (seconds, corrected, usable) in [
            (0, false, true),
            (5, false, true),
            (-5, false, true),
            (6, true, true),
            (-60, true, true),
            (90, true, false),
        ] {
            let ahead = SignedDuration::from_secs(seconds);
            let correction = if corrected { ahead } else { SignedDuration::ZERO };
            assert_eq!(assess(ahead), Assessment { correction, usable }, "{seconds}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test compares with the system's clock")]
    fn a_correction_moves_the_time() {
        let clock = Clock::shifted(SignedDuration::from_secs(90));
        assert!(!clock.is_usable(), "the clocks have not been compared");
        clock.apply(assess(SignedDuration::from_secs(-90)), SignedDuration::from_secs(-90));
        assert!(clock.now().duration_since(Timestamp::now()).abs() < SignedDuration::from_secs(2));
        assert!(!clock.is_usable());
        clock.apply(assess(SignedDuration::ZERO), SignedDuration::ZERO);
        assert!(clock.is_usable());
    }
}
