//! The turns of dedicated readers: so many send at a time. See [`hookwright_core::position::Turns`] for the rules.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::position;
use jiff::Timestamp;

/// The turns of all dedicated readers of this dispatcher.
pub(crate) struct Turns(Mutex<position::Turns>);

/// A reader's turn, or its place among those that wait for one. It is given up when dropped.
pub(super) struct Turn {
    all: Arc<Turns>,
    uid: SubscriptionUid,
    /// The namespace under which the reader has asked.
    asked: Option<String>,
}

impl Turns {
    /// Turns for so many readers at a time.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(position::Turns::new(most))))
    }

    // A poisoned lock means a panic between two changes of the turns. At worst one is lost.
    fn turns(&self) -> MutexGuard<'_, position::Turns> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    pub(super) fn new(all: Arc<Turns>, uid: SubscriptionUid) -> Self {
        Self { all, uid, asked: None }
    }

    /// Whether the reader may send now. If not, it waits for its turn, if it is new since `since`.
    pub(super) fn ask(&mut self, namespace: &str, since: Timestamp, now: Timestamp) -> bool {
        self.asked.get_or_insert_with(|| namespace.to_owned());
        self.all.turns().ask(namespace, &self.uid, since, now)
    }

    pub(super) fn leave(&mut self) {
        if let Some(namespace) = self.asked.take() {
            self.all.turns().leave(&namespace, &self.uid);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.leave();
    }
}
