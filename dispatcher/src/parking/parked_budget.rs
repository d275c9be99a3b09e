//! The budget of all parked deliveries together. Their stream has no limits of its own, because a full stream would drop or
//! refuse deliveries that wait in it. So there is a configured budget. Long before it is used up, each Subscription's
//! quota shrinks (see `hookwright_core::delivery::quota`), and Subscriptions go behind instead.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookwright_core::delivery::quota::ParkQuota;
use hookwright_core::nats::names::PARKED_STREAM;
use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::Nats;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::warn;

use crate::metrics::Metrics;

/// The longest time between two looks at the stream.
const EVERY: Duration = Duration::from_secs(2);
/// The part of the budget, as its divisor, that a dispatcher may park between two looks. Deliveries that were parked
/// before don't count. The other dispatchers park, too, and a dispatcher learns of that only by looking. So together
/// the dispatchers exceed what is left of the budget by at most this part each.
const PART: u64 = 200;

/// How much of one Subscription may be parked.
#[derive(Debug, Clone)]
pub(crate) struct ParkedBudget {
    used: Arc<Used>,
    budget: u64,
}

/// How much of the budget is used, in bytes.
#[derive(Debug)]
struct Used {
    /// The bytes in the stream at the last look.
    stored: AtomicU64,
    /// The bytes that may still be parked before the next look.
    room: Arc<Semaphore>,
    /// The bytes that may be parked between two looks: all permits of `room`.
    part: u32,
    /// The permits of bytes that were stored since the last look began.
    unseen: Mutex<Option<OwnedSemaphorePermit>>,
    /// Notified when a look is due.
    look: Notify,
}

/// A delivery that is about to be parked. It counts as used until dropped.
#[derive(Debug)]
pub(crate) struct Parking {
    used: Arc<Used>,
    bytes: Option<OwnedSemaphorePermit>,
}

impl Used {
    fn new(budget: u64) -> Arc<Self> {
        let part = u32::try_from((budget / PART).max(1)).unwrap_or(u32::MAX);
        let room = Arc::new(Semaphore::new(part as usize));
        Arc::new(Self { stored: AtomicU64::new(0), room, part, unseen: Mutex::default(), look: Notify::new() })
    }

    fn total(&self) -> u64 {
        let since = (self.part as usize).saturating_sub(self.room.available_permits());
        self.stored.load(Ordering::Acquire).saturating_add(since as u64)
    }

    // A poisoned lock means a panic between two permits.
    fn unseen(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a look. Returns the permits of bytes that the look will see in the stream.
    fn begin(&self) -> Option<OwnedSemaphorePermit> {
        self.unseen().take()
    }

    /// Ends a look. Without an answer, the bytes known before are used, plus those that the look should have seen.
    fn looked(&self, seen: Option<OwnedSemaphorePermit>, stored: Option<u64>) {
        let guessed = || seen.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        let stored = stored.unwrap_or_else(|| self.stored.load(Ordering::Acquire).saturating_add(guessed()));
        self.stored.store(stored, Ordering::Release);
    }

    /// Waits until this many more bytes may be parked. More than may be parked between two looks counts as just that
    /// much.
    async fn parking(self: &Arc<Self>, bytes: u64) -> Parking {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.part);
        let bytes = match Arc::clone(&self.room).try_acquire_many_owned(bytes) {
            Ok(bytes) => Some(bytes),
            Err(_) => {
                self.look.notify_one();
                // The semaphore is never closed.
                Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()
            }
        };
        Parking { used: Arc::clone(self), bytes }
    }
}

impl Parking {
    /// Marks the delivery as parked. It counts until a look has seen it.
    pub(crate) fn stored(self) {
        let Self { used, bytes } = self;
        let Some(bytes) = bytes else { return };
        match &mut *used.unseen() {
            Some(unseen) => unseen.merge(bytes),
            none => *none = Some(bytes),
        }
        if used.room.available_permits() <= used.part as usize / 2 {
            used.look.notify_one();
        }
    }
}

/// Watches the size of the stream.
pub(crate) struct ParkedBudgetGauge {
    nats: Nats,
    metrics: Arc<Metrics>,
    used: Arc<Used>,
}

impl ParkedBudgetGauge {
    /// A gauge of a budget of this many bytes.
    pub(crate) fn new(nats: Nats, metrics: Arc<Metrics>, budget: u64) -> (Self, ParkedBudget) {
        let used = Used::new(budget);
        let parked_budget = ParkedBudget { used: Arc::clone(&used), budget };
        (Self { nats, metrics, used }, parked_budget)
    }

    /// Runs for as long as the process.
    pub(crate) async fn run(self) -> Infallible {
        loop {
            let seen = self.used.begin();
            match self.nats.stream(PARKED_STREAM).await {
                Ok(stream) => {
                    let bytes = stream.cached_info().state.bytes;
                    self.used.looked(seen, Some(bytes));
                    self.metrics.parked_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
                }
                Err(error) => {
                    self.used.looked(seen, None);
                    warn!(error = chain(&error), "can't read the size of stream {PARKED_STREAM}; retrying");
                }
            }
            let _ = timeout(EVERY, self.used.look.notified()).await;
        }
    }
}

impl ParkedBudget {
    /// The part of a Subscription's quota that is left.
    pub(crate) fn shrink(&self, quota: ParkQuota) -> ParkQuota {
        quota.shrunk(self.used.total(), self.budget)
    }

    /// Waits until this many more bytes may be parked. This is not a wait for less to be parked, but for the dispatcher
    /// to know how much is.
    pub(crate) async fn parking(&self, bytes: u64) -> Parking {
        self.used.parking(bytes).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_is_parked_counts_until_a_look_has_seen_it_and_no_more_than_a_part_is_parked_between_two() {
        let used = Used::new(100 * PART);
        used.looked(None, Some(1000));
        let (first, second) = (used.parking(40).await, used.parking(30).await);
        assert_eq!(used.total(), 1070);
        first.stored();
        let seen = used.begin();
        second.stored();
        assert_eq!(used.total(), 1070);
        used.looked(seen, Some(1040));
        assert_eq!(used.total(), 1070, "the second may not have been there yet");
        assert!(used.look.notified().now_or_never().is_some(), "most of the part is used, so a look is due");

        let large = used.parking(1 << 20);
        let mut large = std::pin::pin!(large);
        assert!((&mut large).now_or_never().is_none());
        used.looked(used.begin(), None);
        let large = large.now_or_never().unwrap();
        assert!(used.parking(1).now_or_never().is_none());
        drop(large);
        assert_eq!(used.total(), 1070, "there was no answer, and the large one was not parked");
        assert!(used.parking(1).now_or_never().is_some());
    }
}
