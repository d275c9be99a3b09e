//! The wall clock, held against the NATS server's.
//!
//! Due times are the server's to keep, and receivers refuse a `webhook-timestamp` that is minutes off. So the clock of
//! this machine is compared with the time in a reply of JetStream at the start and each minute: up to [`TOLERATED`] it
//! is used as it is; beyond that the server's time is used; beyond [`HOPELESS`], and before the first comparison, the
//! dispatcher takes in nothing and is not ready, as something is wrong with this machine.

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

/// How far off the clock may be to be used as it is.
const TOLERATED: SignedDuration = SignedDuration::from_secs(5);
/// How far off the clock may be for the dispatcher to work.
const HOPELESS: SignedDuration = SignedDuration::from_secs(60);
/// Tests set it to a duration, which is added to the system's clock.
const SHIFT: &str = "HOOKWRIGHT_TEST_CLOCK_SHIFT";
const EVERY: Duration = Duration::from_secs(60);
/// After a comparison that failed.
const RETRY: Duration = Duration::from_secs(2);

/// The time that this dispatcher goes by.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Added to the system's clock: zero but in tests.
    shift: SignedDuration,
    /// Added to that: zero while the clock is tolerated. In milliseconds.
    correction: AtomicI64,
    /// None before the first comparison.
    usable: watch::Sender<Option<bool>>,
}

/// What the difference between server and clock means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    correction: SignedDuration,
    usable: bool,
}

/// `ahead` is how far the server's clock is ahead of ours.
fn judge(ahead: SignedDuration) -> Verdict {
    let off = ahead.abs();
    let correction = if off > TOLERATED { ahead } else { SignedDuration::ZERO };
    Verdict { correction, usable: off <= HOPELESS }
}

#[derive(Debug, thiserror::Error)]
enum ClockError {
    #[error("no answer from JetStream")]
    NoAnswer(#[source] RequestError),
    #[error("JetStream refused to answer")]
    Refused(#[source] async_nats::jetstream::Error),
}

/// What is read of a reply.
#[derive(Deserialize)]
struct Reply {
    ts: Timestamp,
}

impl Clock {
    pub(crate) fn new() -> Arc<Self> {
        Self::shifted(std::env::var(SHIFT).ok().and_then(|text| text.parse().ok()).unwrap_or_default())
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

    #[expect(clippy::disallowed_methods, reason = "it is what all others are to go by")]
    fn own(&self) -> Timestamp {
        let system = Timestamp::now();
        system.checked_add(self.shift).unwrap_or(system)
    }

    /// Whether the dispatcher may work with this clock.
    pub(crate) fn is_usable(&self) -> bool {
        *self.usable.borrow() == Some(true)
    }

    /// Why it may not, if so.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match *self.usable.borrow() {
            None => Some("the clock of this machine has not been compared with the NATS server's"),
            Some(false) => Some("the clock of this machine is more than a minute off"),
            Some(true) => None,
        }
    }

    /// Waits until [`Self::is_usable`].
    pub(crate) async fn usable(&self) {
        // The sender is in self.
        let _ = self.usable.subscribe().wait_for(|usable| *usable == Some(true)).await;
    }

    /// Compares, for ever.
    pub(crate) async fn keep(self: Arc<Self>, nats: Nats, metrics: Arc<Metrics>) {
        loop {
            let wait = match self.compare(&nats).await {
                Ok(ahead) => {
                    metrics.clock_offset.set(ahead.as_secs_f64());
                    EVERY
                }
                Err(error) => {
                    warn!(error = chain(&error), "can't compare the clock with NATS");
                    RETRY
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks the server for its time, and goes by what it says.
    async fn compare(&self, nats: &Nats) -> Result<SignedDuration, ClockError> {
        let before = self.own();
        let asked = nats.jetstream.request(format!("STREAM.INFO.{PARKED_STREAM}"), &serde_json::json!({})).await;
        let after = self.own();
        let Reply { ts } = match asked.map_err(ClockError::NoAnswer)? {
            Response::Ok(reply) => reply,
            Response::Err { error } => return Err(ClockError::Refused(error)),
        };
        // The server's time was read somewhere between.
        let ahead = ts.duration_since(before) - after.duration_since(before) / 2;
        self.apply(judge(ahead), ahead);
        Ok(ahead)
    }

    fn apply(&self, verdict: Verdict, ahead: SignedDuration) {
        let correction = i64::try_from(verdict.correction.as_millis()).unwrap_or_default();
        let before = self.correction.swap(correction, Ordering::Relaxed);
        if correction != 0 {
            warn!(?ahead, usable = verdict.usable, "the clock of this machine is off: going by the NATS server's");
        } else if before != 0 {
            info!("the clock of this machine is right again");
        }
        let usable = Some(verdict.usable);
        self.usable.send_if_modified(|current| std::mem::replace(current, usable) != usable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
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
            assert_eq!(judge(ahead), Verdict { correction, usable }, "{seconds}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the time as it is")]
    fn a_correction_moves_the_time() {
        let clock = Clock::shifted(SignedDuration::from_secs(90));
        assert!(!clock.is_usable(), "nobody knows yet");
        clock.apply(judge(SignedDuration::from_secs(-90)), SignedDuration::from_secs(-90));
        assert!(clock.now().duration_since(Timestamp::now()).abs() < SignedDuration::from_secs(2));
        assert!(!clock.is_usable());
        clock.apply(judge(SignedDuration::ZERO), SignedDuration::ZERO);
        assert!(clock.is_usable());
    }
}
