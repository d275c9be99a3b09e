//! Subscriptions whose endpoint answered 410: they get nothing more until their next edit.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use hookwright_core::ids::SubscriptionUid;
use hookwright_core::names::{DISABLED_KEYS, STATE_BUCKET, parse_disabled_key};
use hookwright_core::record::{Disabled, decode};
use hookwright_runtime::logging::chain;
use hookwright_runtime::mirror::{Change, Mirror};
use hookwright_runtime::nats::Nats;
use tracing::warn;

use crate::subscription::Subscription;

/// The generations that are disabled.
#[derive(Debug, Default)]
pub(crate) struct DisabledSet(RwLock<HashMap<SubscriptionUid, i64>>);

impl DisabledSet {
    /// Whether this generation of the subscription is disabled; an edit ends it.
    pub(crate) fn contains(&self, subscription: &Subscription) -> bool {
        let set = self.0.read().unwrap_or_else(PoisonError::into_inner);
        set.get(&subscription.uid) == Some(&subscription.generation)
    }

    pub(crate) fn insert(&self, uid: SubscriptionUid, generation: i64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(uid, generation);
    }

    fn remove(&self, uid: &SubscriptionUid) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Follows what all dispatchers have found; for ever.
    pub(crate) async fn run(self: Arc<Self>, nats: Nats) {
        Mirror::new(nats, STATE_BUCKET, DISABLED_KEYS).run(|change| self.apply(change)).await;
    }

    fn apply(&self, change: Change) {
        match change {
            Change::Loaded { .. } => {}
            Change::Delete { key } => {
                if let Some(uid) = parse_disabled_key(&key) {
                    self.remove(&uid);
                }
            }
            Change::Put { key, value, .. } => match (parse_disabled_key(&key), decode::<Disabled>(&value)) {
                (Some(uid), Ok(disabled)) => self.insert(uid, disabled.generation),
                (_, Err(error)) => warn!(key, error = chain(&error), "can't read what is disabled"),
                (None, Ok(_)) => {}
            },
        }
    }
}
