//! The index of Subscriptions by the event types that they select, the major version if they select one alone, and an
//! attribute that has to have a certain value.

mod attributes;
mod slots;
mod trie;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::event_type::EventTypePattern;
use crate::select::TypeVersion;

pub use attributes::Attributes;
use slots::{Count, Needs, Place, Seen, Slots};
use trie::Node;

/// An index that finds the entries whose patterns select an event type.
///
/// All patterns without a wildcard together cost one hash look-up. Patterns with a wildcard are in a trie of their tokens:
/// an event type walks the branches that fit it, so the cost grows with what matches, not with what there is. An entry
/// that matches by several of its patterns is found once. Entries that need an attribute to have a certain value are
/// found by that value, again with one hash look-up for each attribute that the event has. How many events that passed
/// such an entry over is known from counts of its patterns, which cost an event nothing for each entry.
#[derive(Debug)]
pub struct Matcher<K, T> {
    slots: HashMap<K, usize>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<usize>,
    exact: HashMap<String, Slots>,
    wildcards: Node,
    /// The number of entries that select one major version alone of some type.
    versioned: usize,
    /// The number of entries with more than one pattern. While it is zero, no entry can be found twice.
    several: usize,
}

#[derive(Debug)]
struct Entry<T> {
    patterns: Vec<Pattern>,
    needs: Option<Needs>,
    value: T,
    /// The counts of the events that its patterns have selected, and their sum when the entry was added.
    selected: Vec<Count>,
    start: u64,
    /// The events that had the value that it needs.
    found: AtomicU64,
    /// The events that didn't, as far as they were told.
    told: AtomicU64,
}

impl<T> Entry<T> {
    fn selected(&self) -> u64 {
        self.selected.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// How many events didn't have the value that the entry needs, since they were told last; 0 if they are `few`
    /// beside those that were told before.
    fn passed_over(&self, few: Few) -> u64 {
        let selected = self.selected().saturating_sub(self.start);
        let passed_over = selected.saturating_sub(self.found.load(Ordering::Relaxed));
        let told = self.told.load(Ordering::Relaxed);
        let new = passed_over.saturating_sub(told);
        if few == Few::Later && new < told / 8 {
            return 0;
        }
        self.told.fetch_max(passed_over, Ordering::Relaxed);
        new
    }
}

/// Whether to tell of events that are few beside those that were told before: less than an eighth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Few {
    /// Not now.
    Later,
    /// Now.
    Now,
}

/// A pattern, and the major version that an event has to have.
type Pattern = (EventTypePattern, Option<u32>);

/// The patterns without those that others cover.
fn fewest(patterns: impl Iterator<Item = Pattern>) -> Vec<Pattern> {
    let covers = |(pattern, major): &Pattern, other: &Pattern| {
        pattern.covers(&other.0) && (major.is_none() || *major == other.1)
    };
    let mut fewest: Vec<Pattern> = Vec::new();
    for pattern in patterns {
        if !fewest.iter().any(|other| covers(other, &pattern)) {
            fewest.retain(|other| !covers(&pattern, other));
            fewest.push(pattern);
        }
    }
    fewest
}

/// Whether an event may be selected by both patterns.
fn overlap((one, major): &Pattern, (other, of_other): &Pattern) -> bool {
    one.overlaps(other) && (major.is_none() || of_other.is_none() || major == of_other)
}

fn is_versioned(patterns: &[Pattern]) -> bool {
    patterns.iter().any(|(_, major)| major.is_some())
}

impl<K, T> Default for Matcher<K, T> {
    fn default() -> Self {
        let (slots, entries, free) = (HashMap::new(), Vec::new(), Vec::new());
        Self { slots, entries, free, exact: HashMap::new(), wildcards: Node::default(), versioned: 0, several: 0 }
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Matcher<K, T> {
    /// Adds an entry under its patterns, in place of the entry that has the same key. Of the types of `versions` it selects
    /// one major version alone. `needs` is an attribute that has to have this value for the entry to be of use.
    pub fn insert(
        &mut self,
        key: &K,
        patterns: &[EventTypePattern],
        versions: &[TypeVersion],
        needs: Option<(&str, &str)>,
        value: &T,
    ) {
        self.remove(key);
        let versioned = versions.iter().map(|version| (version.event_type.clone(), Some(version.major)));
        let patterns = fewest(patterns.iter().map(|pattern| (pattern.clone(), None)).chain(versioned));
        // An event that several of its patterns select would count for each of them as one that it is passed over by.
        let overlaps = |(i, pattern): (usize, &Pattern)| patterns[..i].iter().any(|other| overlap(other, pattern));
        let needs = needs.filter(|_| !patterns.iter().enumerate().any(overlaps));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        let needs: Option<Needs> = needs.map(|(name, value)| (name.into(), value.into()));
        let mut selected = Vec::new();
        for (pattern, major) in &patterns {
            let place = Place { slot, major: *major, needs: needs.as_ref() };
            selected.push(if pattern.is_exact() {
                self.exact.entry(pattern.as_str().to_owned()).or_default().insert(place)
            } else {
                self.wildcards.insert(pattern.as_str(), place)
            });
        }
        self.versioned += usize::from(is_versioned(&patterns));
        self.several += usize::from(patterns.len() > 1);
        self.slots.insert(key.clone(), slot);
        let (found, told) = (AtomicU64::default(), AtomicU64::default());
        let mut entry = Entry { patterns, needs, value: value.clone(), selected, start: 0, found, told };
        entry.start = entry.selected();
        self.entries[slot] = Some(entry);
    }

    /// Removes the entry with this key, if there is one.
    pub fn remove(&mut self, key: &K) {
        let Some(slot) = self.slots.remove(key) else { return };
        let Some(entry) = self.entries[slot].take() else { return };
        self.free.push(slot);
        self.versioned -= usize::from(is_versioned(&entry.patterns));
        self.several -= usize::from(entry.patterns.len() > 1);
        for (pattern, major) in &entry.patterns {
            let place = Place { slot, major: *major, needs: entry.needs.as_ref() };
            if !pattern.is_exact() {
                self.wildcards.remove(pattern.as_str(), place);
            } else if let Some(slots) = self.exact.get_mut(pattern.as_str()) {
                slots.remove(place);
                if slots.is_empty() {
                    self.exact.remove(pattern.as_str());
                }
            }
        }
    }

    /// Whether an entry selects one major version alone of some type. If not, [`Self::matches`] needs no version.
    #[must_use]
    pub fn is_versioned(&self) -> bool {
        self.versioned > 0
    }

    /// The entries that select this event type, each once, except those that need another value of an attribute.
    /// `major` is the event's major version, if it has one.
    #[must_use]
    pub fn matches(&self, event_type: &str, major: Option<u32>, attributes: &impl Attributes) -> Vec<T> {
        let value = |slot: &usize| {
            let entry = self.entries[*slot].as_ref()?;
            if entry.needs.is_some() {
                entry.found.fetch_add(1, Ordering::Relaxed);
            }
            Some(entry.value.clone())
        };
        let seen = Seen { major, attributes };
        let mut found = Vec::new();
        self.wildcards.visit(Some(event_type), &mut |slots: &Slots| slots.find(&seen, &mut found));
        let exact = self.exact.get(event_type);
        if found.is_empty()
            && let Some(all) = exact.and_then(Slots::alike)
        {
            return all.iter().filter_map(value).collect();
        }
        exact.iter().for_each(|slots| slots.find(&seen, &mut found));
        if self.several > 0 {
            found.sort_unstable();
            found.dedup();
        }
        found.iter().filter_map(value).collect()
    }

    /// The entries that select events which don't have the value that they need, and how many since they were told last.
    pub fn passed_over(&self, few: Few) -> impl Iterator<Item = (T, u64)> {
        let waiting = self.entries.iter().flatten().filter(|entry| entry.needs.is_some());
        waiting.map(move |entry| (entry.value.clone(), entry.passed_over(few))).filter(|(_, events)| *events > 0)
    }

    /// Whether the index has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests;
