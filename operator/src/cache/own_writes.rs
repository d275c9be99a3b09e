//! The newest version of an object: what the watch brought, or the answer to the operator's own last write, which the
//! watch may not have brought yet. Without it, a reconcile right after a write would undo it or report it twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::{Resource, ResourceExt};

/// Answers to writes, by uid.
pub(crate) struct Latest<K>(Mutex<HashMap<String, Arc<K>>>);

impl<K> Default for Latest<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Resource versions of one kind can be compared as numbers (KEP-5504).
fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl<K: Resource> Latest<K> {
    /// The newer of this object and the last answer.
    pub(crate) fn of(&self, object: &Arc<K>) -> Arc<K> {
        let Some(uid) = object.uid() else { return object.clone() };
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = answers.get(&uid).map_or(0, |old| version(&**old));
        if version(&answer) > old {
            answers.insert(uid, Arc::new(answer));
        }
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
