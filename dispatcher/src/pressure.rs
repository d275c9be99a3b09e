//! Back pressure from the parked deliveries. Their stream has no limits of its own, for a full one would drop or refuse
//! what waits; so there is a configured budget. Long before it is used up, each subscription's quota shrinks (see
//! `hookwright_core::quota`). Should that not be enough, dispatchers take in no new events. What is due goes on, and the
//! events wait in their own streams.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookwright_core::names::PARKED_STREAM;
use hookwright_core::quota::{ParkQuota, pause_at};
use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::Nats;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::metrics::Metrics;

/// How often the stream is looked at, at the least.
const EVERY: Duration = Duration::from_secs(2);
/// It is looked at also after each such part of the budget that this dispatcher has parked: the others park, too.
const PART: u64 = 50;

/// Whether new events may be taken in, and how much of one subscription may be parked.
#[derive(Debug, Clone)]
pub(crate) struct Pressure {
    high: watch::Receiver<bool>,
    used: Arc<Mutex<Used>>,
    budget: u64,
    /// A look is due.
    look: Arc<Notify>,
}

/// What is used of the budget, in bytes.
#[derive(Debug, Default)]
struct Used {
    /// At the last look.
    stored: u64,
    /// What this dispatcher was about to park between the look before and the last one: some of it may have come too late
    /// for that.
    before: u64,
    /// The same since the last look.
    since: u64,
}

impl Used {
    fn looked(&mut self, stored: u64) {
        *self = Self { stored, before: self.since, since: 0 };
    }

    fn total(&self) -> u64 {
        self.stored.saturating_add(self.before).saturating_add(self.since)
    }
}

/// Watches the stream.
pub(crate) struct PressureGauge {
    nats: Nats,
    metrics: Arc<Metrics>,
    /// From this many bytes on, nothing new is taken in.
    limit: u64,
    high: watch::Sender<bool>,
    pressure: Pressure,
}

impl PressureGauge {
    /// New events are taken in while less than 80% of `budget` (bytes) is used.
    pub(crate) fn new(nats: Nats, metrics: Arc<Metrics>, budget: u64) -> (Self, Pressure) {
        let (high, receiver) = watch::channel(false);
        let pressure = Pressure { high: receiver, used: Arc::default(), budget, look: Arc::default() };
        (Self { nats, metrics, limit: pause_at(budget), high, pressure: pressure.clone() }, pressure)
    }

    /// For ever.
    pub(crate) async fn run(self) -> Infallible {
        loop {
            // While there is no answer, what was known holds.
            match self.nats.jetstream.get_stream(PARKED_STREAM).await {
                Ok(stream) => self.set(stream.cached_info().state.bytes),
                Err(error) => warn!(error = chain(&error), "can't look at {PARKED_STREAM}"),
            }
            let _ = timeout(EVERY, self.pressure.look.notified()).await;
        }
    }

    fn set(&self, bytes: u64) {
        self.pressure.used().looked(bytes);
        let high = bytes >= self.limit;
        self.metrics.parked_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.paused.set(i64::from(high));
        let turned = self.high.send_if_modified(|current| std::mem::replace(current, high) != high);
        match (turned, high) {
            (true, true) => warn!(bytes, limit = self.limit, "too much is parked: no new events are taken in"),
            (true, false) => info!(bytes, limit = self.limit, "new events are taken in again"),
            (false, _) => {}
        }
    }
}

impl Pressure {
    /// What is left of a subscription's quota.
    pub(crate) fn shrink(&self, quota: ParkQuota) -> ParkQuota {
        quota.shrunk(self.used().total(), self.budget)
    }

    /// So many bytes are about to be parked.
    pub(crate) fn add(&self, bytes: u64) {
        let mut used = self.used();
        used.since = used.since.saturating_add(bytes);
        if used.since >= self.budget / PART {
            self.look.notify_one();
        }
    }

    // A poisoned lock means a panic between two sums: the next look puts it right.
    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_high(&self) -> bool {
        *self.high.borrow()
    }

    /// Waits until new events may be taken in.
    pub(crate) async fn relieved(&self) {
        // The sender lives as long as the process.
        let _ = self.high.clone().wait_for(|high| !high).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_to_be_parked_counts_until_the_look_after_next() {
        let mut used = Used { stored: 100, before: 0, since: 7 };
        assert_eq!(used.total(), 107);
        used.looked(103);
        assert_eq!(used.total(), 110, "some of the 7 may not have been there yet");
        used.looked(107);
        assert_eq!(used.total(), 107);
    }
}
