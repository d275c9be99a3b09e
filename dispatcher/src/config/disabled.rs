//! Subscriptions that are disabled: their endpoint answered 410, or has failed for too long. They get no more events until
//! their spec is edited, or someone asks to resume.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{DISABLED_KEYS, STATE_BUCKET, parse_disabled_key};
use hookwright_core::record::{Disabled, DisabledFor, decode};
use hookwright_runtime::logging::chain;
use hookwright_runtime::mirror::{Change, Mirror};
use hookwright_runtime::nats::Nats;
use tokio::sync::watch;
use tracing::warn;

/// The mark of each disabled Subscription.
#[derive(Debug)]
pub(crate) struct DisabledSet {
    marks: RwLock<HashMap<SubscriptionUid, Disabled>>,
    loaded: watch::Sender<bool>,
}

impl DisabledSet {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { marks: RwLock::default(), loaded: watch::Sender::new(false) })
    }

    /// Waits until all Subscriptions are known that were disabled before this dispatcher started.
    pub(crate) async fn loaded(&self) {
        // The sender is a field of `self`, so the channel stays open.
        let _ = self.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    /// Why this spec of the Subscription is disabled, if it is. An edit makes another one, which is not.
    pub(crate) fn why(&self, uid: &SubscriptionUid, generation: i64, resume: Option<u64>) -> Option<DisabledFor> {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        marks.get(uid).filter(|mark| mark.disables(generation, resume)).map(|mark| mark.why)
    }

    /// Adds a mark and returns whether it was new. The newest mark counts.
    pub(crate) fn insert(&self, uid: &SubscriptionUid, mark: Disabled) -> bool {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        let new = marks.get(uid).is_none_or(|known| mark.replaces(known));
        if new {
            marks.insert(uid.clone(), mark);
        }
        new
    }

    fn remove(&self, uid: &SubscriptionUid) {
        self.marks.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Follows the records that all dispatchers write, for as long as the process runs.
    pub(crate) async fn run(self: Arc<Self>, nats: Nats) {
        Mirror::new(nats, STATE_BUCKET, DISABLED_KEYS).run(|change| self.apply(change)).await;
    }

    fn apply(&self, change: Change) {
        match change {
            Change::Loaded(_) => drop(self.loaded.send_replace(true)),
            // The mirror starts again by itself. A delivery to an endpoint that is gone does no harm meanwhile.
            Change::Behind => {}
            Change::Delete { key } | Change::Vanished { key } => {
                if let Some(uid) = parse_disabled_key(&key) {
                    self.remove(&uid);
                }
            }
            Change::Put { key, value, .. } => match (parse_disabled_key(&key), decode::<Disabled>(&value)) {
                (Some(uid), Ok(disabled)) => drop(self.insert(&uid, disabled)),
                (_, Err(error)) => {
                    warn!(key, error = chain(&error), "can't read the record of a disabled Subscription")
                }
                (None, Ok(_)) => {}
            },
        }
    }
}
