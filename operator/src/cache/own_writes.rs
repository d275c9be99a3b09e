//! Answers to the operator's own writes.
//!
//! The watch may not have brought the answer to the operator's last write of an object yet. Without these answers, a
//! reconcile right after a write would undo the write or report it twice.

use std::collections::HashMap;
use std::sync::Arc;

use kube::{Resource, ResourceExt};

use crate::cache::shared::Shared;

/// The answer to the last write of each object, by uid.
pub(crate) struct OwnWrites<K>(Shared<HashMap<String, Arc<K>>>);

impl<K> Default for OwnWrites<K> {
    fn default() -> Self {
        Self(Shared::default())
    }
}

/// Resource versions of one kind can be compared as numbers (KEP-5504).
fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl<K: Resource> OwnWrites<K> {
    /// Returns this object, or the answer to the last write if that is newer.
    pub(crate) fn newest(&self, object: &Arc<K>) -> Arc<K> {
        let Some(uid) = object.uid() else { return object.clone() };
        let mut answers = self.0.lock();
        match answers.get(&uid) {
            Some(answer) if version(&**answer) > version(&**object) => answer.clone(),
            Some(_) => {
                answers.remove(&uid);
                object.clone()
            }
            None => object.clone(),
        }
    }

    /// Takes the answer to a write.
    pub(crate) fn remember(&self, answer: K) {
        let Some(uid) = answer.uid() else { return };
        let mut answers = self.0.lock();
        let old = answers.get(&uid).map_or(0, |old| version(&**old));
        if version(&answer) > old {
            answers.insert(uid, Arc::new(answer));
        }
    }

    /// Drops the answer for an object that is deleted.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}
