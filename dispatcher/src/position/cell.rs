//! What a dispatcher knows about the position of one Subscription.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookwright_core::delivery::breaker::Failures;
use hookwright_core::nats::delivery_id::DeliveryId;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::position::{Position, Waits};
use jiff::Timestamp;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Notify};
use tokio::time::Instant;

/// What a dispatcher knows about the position of one Subscription.
#[derive(Debug)]
pub(crate) struct PositionCell {
    uid: SubscriptionUid,
    /// Whether nothing has to be looked up for an event: the position is idle.
    is_live: AtomicBool,
    known: Mutex<Known>,
    /// Notified when the position has changed. Only the dedicated reader waits for it.
    changed: Notify,
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
    /// Whether somebody has removed the position, though the Subscription is behind. It still holds, and is written again.
    pub(crate) removed: bool,
    /// Whether the position can't be read. Then nothing of the Subscription may be settled.
    pub(crate) unreadable: bool,
}

impl PositionCell {
    pub(crate) fn new(uid: SubscriptionUid) -> Self {
        let (is_live, is_failing) = (AtomicBool::new(true), AtomicBool::new(false));
        let (known, failures, storing) = (Mutex::default(), Mutex::default(), AsyncMutex::default());
        let (changed, probe, unattempted) = (Notify::new(), AtomicU64::new(0), Mutex::default());
        Self { uid, is_live, known, changed, failures, is_failing, probe, unattempted, storing }
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

    /// Waits until the position has changed since the last call. It is for the dedicated reader alone.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes a position, unless a newer one is known. If there is none, the one that is known holds.
    pub(crate) fn learn(&self, position: Option<Position>, revision: u64) {
        match position {
            Some(position) => self.set(Known { position: Some(Arc::new(position)), revision, ..Known::default() }),
            None => self.learn_removed(Some(revision)),
        }
    }

    /// Takes it that somebody has removed the position, at this revision if that is known. Only the end of a Subscription
    /// ends its position: what it covers waits in the stream, and nothing else says so.
    pub(crate) fn learn_removed(&self, revision: Option<u64>) {
        let known = self.known();
        let revision = revision.unwrap_or(known.revision);
        if self.is_live() || known.position.is_none() {
            return self.set(Known { revision, ..Known::default() });
        }
        self.set(Known { revision, removed: true, ..known });
    }

    /// Takes it that there is a position of this revision that can't be read.
    pub(crate) fn learn_unreadable(&self, revision: u64) {
        self.set(Known { revision, unreadable: true, ..Known::default() });
    }

    /// Forgets the position, as the Subscription was deleted.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        *state = Known { revision: state.revision, ..Known::default() };
        self.is_live.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// The next position that is learnt counts, whatever its revision.
    pub(crate) fn distrust(&self) {
        self.state().revision = 0;
    }

    /// The next position that is learnt counts, whatever its revision, unless one was learnt since this revision.
    pub(crate) fn distrust_at(&self, revision: u64) {
        let mut state = self.state();
        if state.revision == revision {
            state.revision = 0;
        }
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

    /// Counts a delivery that is about to be parked without an attempt, as this many. Returns whether so many were parked
    /// lately that the Subscription goes behind.
    pub(crate) fn is_crowded(&self, as_many: usize) -> bool {
        let mut unattempted = self.unattempted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match unattempted.since {
            Some(since) if now.saturating_duration_since(since) < LATELY => {}
            _ => *unattempted = Unattempted { since: Some(now), count: 0 },
        }
        unattempted.count = unattempted.count.saturating_add(as_many);
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
        let is_live = !known.unreadable && known.position.as_ref().is_none_or(|position| position.is_idle());
        *state = known;
        self.is_live.store(is_live, Ordering::Release);
        self.changed.notify_one();
    }

    // A poisoned lock means a panic between two assignments, where nothing panics.
    fn state(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use hookwright_core::position::Range;

    use super::*;

    #[test]
    fn a_position_that_somebody_removes_holds_while_it_covers_anything() {
        let cell = PositionCell::new(SubscriptionUid::parse("s-1").unwrap());
        let created = Timestamp::UNIX_EPOCH;
        let live = Position::live(created);
        let behind = Position { ranges: vec![Range { from: 5, to: None, until: None, begun: false }], ..live.clone() };
        let waits = Position { waits: Some(Waits::since(created)), ..live.clone() };
        for (position, holds) in [(live, false), (behind, true), (waits, true)] {
            for revision in [None, Some(20)] {
                cell.distrust();
                cell.learn(Some(position.clone()), 10);
                cell.learn_removed(revision);
                let known = cell.known();
                assert_eq!((known.position.is_some(), known.removed, !cell.is_live()), (holds, holds, holds));
                assert_eq!(known.revision, revision.unwrap_or(10));
                // What is read at the leader says the same.
                cell.learn(None, 21);
                assert_eq!((cell.known().removed, cell.known().revision), (holds, 21));
                cell.learn(Some(position.clone()), 22);
                assert!(!cell.known().removed);
                cell.forget();
                assert!(cell.is_live() && cell.known().position.is_none());
            }
        }
    }

    #[test]
    fn what_the_leader_says_after_a_write_has_failed_counts() {
        let cell = PositionCell::new(SubscriptionUid::parse("s-1").unwrap());
        let at = |second| Position::live(Timestamp::from_second(second).unwrap());
        let newest = || cell.known().position.map(|position| position.stream_created.as_second());
        cell.learn(Some(at(1)), 1000);
        cell.learn(Some(at(2)), 3);
        assert_eq!(newest(), Some(1), "the mirror doesn't go back");
        // The write at revision 1000 has failed: the bucket is another one.
        cell.distrust_at(1000);
        cell.learn(Some(at(2)), 3);
        assert_eq!((newest(), cell.known().revision), (Some(2), 3));
        // The mirror was quicker than the answer of the leader.
        cell.learn(Some(at(4)), 5);
        cell.distrust_at(3);
        cell.learn(Some(at(3)), 4);
        assert_eq!((newest(), cell.known().revision), (Some(4), 5));
    }
}
