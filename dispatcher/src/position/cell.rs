//! What a dispatcher knows about the position of one Subscription.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::position::Position;
use jiff::Timestamp;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

/// What a dispatcher knows about the position of one Subscription.
#[derive(Debug)]
pub(crate) struct PositionCell {
    uid: SubscriptionUid,
    /// Whether nothing has to be looked up for an event: there are no ranges, and nothing is waited for.
    is_live: AtomicBool,
    known: Mutex<Known>,
    /// Held by the one that stores a new position, so that the others find it stored.
    storing: AsyncMutex<()>,
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
        let (is_live, known) = (AtomicBool::new(true), Mutex::default());
        Self { uid, is_live, known, storing: AsyncMutex::default() }
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

    /// Waits for the right to store a new position.
    pub(crate) async fn storing(&self) -> AsyncMutexGuard<'_, ()> {
        self.storing.lock().await
    }

    fn set(&self, known: Known) {
        let mut state = self.state();
        if known.revision < state.revision {
            return;
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
