//! The uids by which NATS knows objects. They are the objects' own, except those of objects that were applied again to a
//! cluster that took over the installation of another one: these go on under their former uids.

use std::collections::{HashMap, HashSet};

use hookwright_core::nats::names::FORMER_PREFIX;
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

/// Returns whether the key is that of an object of this kind.
fn is_of(key: &str, kind: &str) -> bool {
    key.strip_prefix(FORMER_PREFIX).and_then(|rest| rest.strip_prefix(kind)).is_some_and(|rest| rest.starts_with('.'))
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

    /// Returns the uids of a kind that no object has taken up.
    pub(crate) fn free_uids(&self, kind: &str) -> Vec<String> {
        let state = self.0.lock();
        let free = state.entries.iter().filter(|(key, entry)| is_of(key, kind) && entry.former.object.is_none());
        free.map(|(_, entry)| entry.former.uid.clone()).collect()
    }

    /// Returns the keys of the entries that no object has taken up.
    pub(crate) fn free_keys(&self) -> HashSet<String> {
        let state = self.0.lock();
        let free = state.entries.iter().filter(|(_, entry)| entry.former.object.is_none());
        free.map(|(key, _)| key.clone()).collect()
    }

    /// Returns all entries, with their keys.
    pub(crate) fn all(&self) -> Vec<(String, Former)> {
        self.0.lock().entries.iter().map(|(key, entry)| (key.clone(), entry.former.clone())).collect()
    }

    /// Forgets an entry that no object has taken up, if it is still at this revision. Returns whether it was.
    pub(crate) fn forget(&self, key: &str, revision: u64) -> bool {
        let mut state = self.0.lock();
        let is_so = |entry: &Entry| entry.revision == revision && entry.former.object.is_none();
        state.entries.get(key).is_some_and(is_so) && state.entries.remove(key).is_some()
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

#[cfg(test)]
mod tests {
    use super::*;
    use hookwright_core::nats::names::former_key;
    use hookwright_core::record::VERSION;

    #[test]
    fn an_entry_that_is_forgotten_is_taken_up_by_nobody() {
        let entry = |uid: &str, object: Option<&str>, revision| {
            let former = Former { version: VERSION, uid: uid.to_owned(), object: object.map(str::to_owned) };
            Entry { former, revision }
        };
        let key = |name: &str| former_key("Subscription", "shop", name);
        let known = Identities::default();
        known.load([(key("free"), entry("s-1", None, 1)), (key("taken"), entry("s-2", Some("o-2"), 2))].into());
        assert_eq!(known.free_uids("Subscription"), ["s-1"]);
        assert!(known.free_uids("Sub").is_empty() && known.free_uids("Producer").is_empty());
        assert_eq!(known.free_keys(), [key("free")].into());
        assert!(!known.forget(&key("free"), 9) && known.free(&key("free")).is_some(), "it has changed meanwhile");
        assert!(known.forget(&key("free"), 1) && known.free(&key("free")).is_none());
        assert!(!known.forget(&key("taken"), 2));
        assert_eq!((known.of_uid("o-2"), known.all().len()), ("s-2".to_owned(), 1));
    }
}
