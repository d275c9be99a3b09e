//! Subscriptions whose endpoint answered 410. They get no more events until their spec is edited.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{DISABLED_KEYS, STATE_BUCKET, parse_disabled_key};
use hookwright_core::record::{Disabled, decode};
use hookwright_runtime::logging::chain;
use hookwright_runtime::mirror::{Change, Mirror};
use hookwright_runtime::nats::Nats;
use tokio::sync::watch;
use tracing::warn;

/// The disabled generation of each disabled Subscription.
#[derive(Debug)]
pub(crate) struct DisabledSet {
    generations: RwLock<HashMap<SubscriptionUid, i64>>,
    loaded: watch::Sender<bool>,
}

impl DisabledSet {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { generations: RwLock::default(), loaded: watch::Sender::new(false) })
    }

    /// Waits until all Subscriptions are known that were disabled before this dispatcher started.
    pub(crate) async fn loaded(&self) {
        // The sender is a field of `self`, so the channel stays open.
        let _ = self.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    /// Whether this generation of the Subscription is disabled. An edit makes another generation, which is not.
    pub(crate) fn contains(&self, uid: &SubscriptionUid, generation: i64) -> bool {
        let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        generations.get(uid) == Some(&generation)
    }

    /// Adds a generation and returns whether it was new. If a Subscription has several disabled generations, the newest
    /// counts.
    pub(crate) fn insert(&self, uid: &SubscriptionUid, generation: i64) -> bool {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = generations.get(uid).is_none_or(|known| *known < generation);
        if is_new {
            generations.insert(uid.clone(), generation);
        }
        is_new
    }

    fn remove(&self, uid: &SubscriptionUid) {
        self.generations.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Follows the records that all dispatchers write, for as long as the process runs.
    pub(crate) async fn run(self: Arc<Self>, nats: Nats) {
        Mirror::new(nats, STATE_BUCKET, DISABLED_KEYS).run(|change| self.apply(change)).await;
    }

    fn apply(&self, change: Change) {
        match change {
            Change::Loaded { .. } => drop(self.loaded.send_replace(true)),
            // The mirror starts again by itself. A delivery to an endpoint that is gone does no harm meanwhile.
            Change::Behind => {}
            Change::Delete { key } | Change::Vanished { key } => {
                if let Some(uid) = parse_disabled_key(&key) {
                    self.remove(&uid);
                }
            }
            Change::Put { key, value, .. } => match (parse_disabled_key(&key), decode::<Disabled>(&value)) {
                (Some(uid), Ok(disabled)) => drop(self.insert(&uid, disabled.generation)),
                (_, Err(error)) => {
                    warn!(key, error = chain(&error), "can't read the record of a disabled Subscription")
                }
                (None, Ok(_)) => {}
            },
        }
    }
}
