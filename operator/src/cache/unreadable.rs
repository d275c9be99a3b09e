//! Objects that the operator can't read, such as those of a newer release's fields.

use std::collections::HashSet;

use kube::runtime::reflector::{Lookup, ObjectRef};

use crate::cache::shared::Shared;

/// The objects of one kind that can't be read. They exist, although the store lacks them or has an earlier form.
pub(crate) struct Unreadable<K: Lookup<DynamicType = ()> + 'static>(Shared<State<K>>);

struct State<K: Lookup<DynamicType = ()> + 'static> {
    now: HashSet<ObjectRef<K>>,
    /// The objects of a list that is not complete yet.
    listing: Option<HashSet<ObjectRef<K>>>,
}

impl<K: Lookup<DynamicType = ()>> Default for Unreadable<K> {
    fn default() -> Self {
        Self(Shared::new(State { now: HashSet::new(), listing: None }))
    }
}

impl<K: Lookup<DynamicType = ()> + Clone> Unreadable<K> {
    pub(crate) fn contains(&self, object: &ObjectRef<K>) -> bool {
        self.0.lock().now.contains(object)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().now.len()
    }

    /// Notes that a list begins.
    pub(crate) fn begin(&self) {
        self.0.lock().listing = Some(HashSet::new());
    }

    /// Notes that the list is complete.
    pub(crate) fn complete(&self) {
        let mut state = self.0.lock();
        if let Some(listed) = state.listing.take() {
            state.now = listed;
        }
    }

    /// Notes an object that can't be read.
    pub(crate) fn add(&self, object: ObjectRef<K>) {
        let mut state = self.0.lock();
        match &mut state.listing {
            Some(listed) => listed.insert(object),
            None => state.now.insert(object),
        };
    }

    /// Notes that an object can be read, or has gone.
    pub(crate) fn remove(&self, object: &ObjectRef<K>) {
        self.0.lock().now.remove(object);
    }
}
