//! The uids by which NATS knows objects. They are the objects' own, except those of objects that were applied again to a
//! cluster that took over the installation of another one: these go on under their former uids.

use std::collections::HashMap;

use hookwright_core::record::Former;
use kube::{Resource, ResourceExt};

use crate::cache::shared::Shared;

/// A former uid in the config bucket.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) former: Former,
    pub(crate) revision: u64,
}

/// The former uids, by their keys in the config bucket.
#[derive(Default)]
pub(crate) struct Identities(Shared<State>);

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// The uid in NATS, by that of the object.
    by_object: HashMap<String, String>,
    /// Whether the entries were read.
    loaded: bool,
}

impl Identities {
    /// Takes all entries, in place of those before.
    pub(crate) fn load(&self, entries: HashMap<String, Entry>) {
        let by_object = entries.values().filter_map(|Entry { former, .. }| {
            let object = former.object.clone()?;
            Some((object, former.uid.clone()))
        });
        let by_object = by_object.collect();
        *self.0.lock() = State { entries, by_object, loaded: true };
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.0.lock().loaded
    }

    /// Returns the entry that no object has taken up.
    pub(crate) fn free(&self, key: &str) -> Option<Entry> {
        let state = self.0.lock();
        state.entries.get(key).filter(|entry| entry.former.object.is_none()).cloned()
    }

    pub(crate) fn put(&self, key: String, entry: Entry) {
        let mut state = self.0.lock();
        if let Some(object) = entry.former.object.clone() {
            state.by_object.insert(object, entry.former.uid.clone());
        }
        state.entries.insert(key, entry);
    }

    /// Forgets what an object had taken up. Returns the key.
    pub(crate) fn release(&self, object: &str) -> Option<String> {
        let mut state = self.0.lock();
        state.by_object.remove(object)?;
        let is_its = |entry: &Entry| entry.former.object.as_deref() == Some(object);
        let key = state.entries.iter().find(|(_, entry)| is_its(entry)).map(|(key, _)| key.clone())?;
        state.entries.remove(&key);
        Some(key)
    }

    /// Returns the uid in NATS of an object whose own uid this is.
    pub(crate) fn of_uid(&self, object: &str) -> String {
        self.0.lock().by_object.get(object).map_or_else(|| object.to_owned(), String::clone)
    }

    /// Returns the uid in NATS of an object.
    pub(crate) fn of(&self, object: &impl Resource) -> String {
        self.of_uid(&object.uid().unwrap_or_default())
    }

    /// Returns the own uid of the object that NATS knows by this one.
    pub(crate) fn object(&self, uid: &str) -> String {
        let state = self.0.lock();
        let found = state.by_object.iter().find(|(_, known)| *known == uid);
        found.map_or_else(|| uid.to_owned(), |(object, _)| object.clone())
    }
}
