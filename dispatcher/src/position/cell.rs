//! What a dispatcher knows about the position of one Subscription.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookwright_core::delivery::breaker::Failures;
use hookwright_core::nats::delivery_id::DeliveryId;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::position::{Position, Waits};
use jiff::Timestamp;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};
use tokio::time::Instant;

/// What a dispatcher knows about the position of one Subscription.
#[derive(Debug)]
pub(crate) struct PositionCell {
    uid: SubscriptionUid,
    /// Whether nothing has to be looked up for an event: there are no ranges, and nothing is waited for.
    is_live: AtomicBool,
    known: Mutex<Known>,
    /// The failures in a row at this dispatcher.
    failures: Mutex<Failures>,
    /// Whether there are any.
    is_failing: AtomicBool,
    /// The event that the dedicated reader probes the endpoint with; 0 if there is none.
    probe: AtomicU64,
    /// The deliveries that were parked without an attempt lately.
    unattempted: Mutex<Unattempted>,
    /// Held by the one that stores a new position, so that the others find it stored.
    storing: AsyncMutex<()>,
}

/// How many deliveries a dispatcher parks without an attempt, within the longest wait of such a delivery.
const UNATTEMPTED: usize = 512;
const LATELY: Duration = Duration::from_secs(60);

/// The deliveries that were parked without an attempt since a while ago.
#[derive(Debug, Default)]
struct Unattempted {
    since: Option<Instant>,
    count: usize,
}

/// A position and its revision.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) position: Option<Arc<Position>>,
    pub(crate) revision: u64,
    /// Whether the position can't be read. Then nothing of the Subscription may be settled.
    pub(crate) unreadable: bool,
}

impl PositionCell {
    pub(crate) fn new(uid: SubscriptionUid) -> Self {
        let (is_live, is_failing) = (AtomicBool::new(true), AtomicBool::new(false));
        let (known, failures, storing) = (Mutex::default(), Mutex::default(), AsyncMutex::default());
        let (probe, unattempted) = (AtomicU64::new(0), Mutex::default());
        Self { uid, is_live, known, failures, is_failing, probe, unattempted, storing }
    }

    pub(crate) fn uid(&self) -> &SubscriptionUid {
        &self.uid
    }

    /// Whether nothing is behind and nothing is waited for. It costs one load.
    pub(crate) fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Acquire)
    }

    /// Whether the dedicated reader delivers this event.
    pub(crate) fn covers(&self, stream_created: Timestamp, sequence: u64) -> bool {
        !self.is_live() && self.known().position.is_some_and(|position| position.covers(stream_created, sequence))
    }

    /// What the Subscription waits for.
    pub(crate) fn waits(&self) -> Option<Waits> {
        self.state().position.as_ref()?.waits
    }

    pub(crate) fn known(&self) -> Known {
        self.state().clone()
    }

    /// Takes a position, unless a newer one is known.
    pub(crate) fn learn(&self, position: Option<Position>, revision: u64) {
        self.set(Known { position: position.map(Arc::new), revision, unreadable: false });
    }

    /// Takes it that there is a position of this revision that can't be read.
    pub(crate) fn learn_unreadable(&self, revision: u64) {
        self.set(Known { position: None, revision, unreadable: true });
    }

    /// Takes it that there is no position any more.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        *state = Known { revision: state.revision, ..Known::default() };
        self.is_live.store(true, Ordering::Release);
    }

    /// The next position that is learnt counts, whatever its revision.
    pub(crate) fn distrust(&self) {
        self.state().revision = 0;
    }

    /// Counts a failed attempt. Returns whether so many deliveries have failed in a row that the breaker opens.
    pub(crate) fn failed(&self, id: &DeliveryId) -> bool {
        self.is_failing.store(true, Ordering::Release);
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).failed(id)
    }

    /// Counts a success.
    pub(crate) fn succeeded(&self) {
        self.is_failing.store(false, Ordering::Release);
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).succeeded();
    }

    /// Whether a success changes anything: attempts have failed, or the Subscription is not live. It costs two loads.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.is_failing.load(Ordering::Acquire) || !self.is_live()
    }

    /// Counts a delivery that is about to be parked without an attempt. Returns whether so many were parked lately that
    /// the Subscription goes behind.
    pub(crate) fn is_crowded(&self) -> bool {
        let mut unattempted = self.unattempted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match unattempted.since {
            Some(since) if now.saturating_duration_since(since) < LATELY => {}
            _ => *unattempted = Unattempted { since: Some(now), count: 0 },
        }
        unattempted.count += 1;
        unattempted.count > UNATTEMPTED
    }

    /// The endpoint is probed with this event.
    pub(crate) fn set_probe(&self, sequence: u64) {
        self.probe.store(sequence, Ordering::Release);
    }

    /// Whether the endpoint is probed with this event.
    pub(crate) fn is_probe(&self, sequence: u64) -> bool {
        self.probe.load(Ordering::Acquire) == sequence
    }

    /// Waits for the right to store a new position.
    pub(crate) async fn storing(&self) -> AsyncMutexGuard<'_, ()> {
        self.storing.lock().await
    }

    fn set(&self, known: Known) {
        let mut state = self.state();
        if known.revision < state.revision {
            return;
        }
        let broken = |known: &Known| known.position.as_ref().is_some_and(|position| position.is_broken());
        if broken(&state) && !broken(&known) {
            // Failures from before the breaker closed say nothing about the endpoint now.
            self.succeeded();
        }
        let idle = |position: &Arc<Position>| position.ranges.is_empty() && position.waits.is_none();
        let is_live = !known.unreadable && known.position.as_ref().is_none_or(idle);
        *state = known;
        self.is_live.store(is_live, Ordering::Release);
    }

    // A poisoned lock means a panic between two assignments, where nothing panics.
    fn state(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
