//! The index of Subscriptions by the event types that they select, the major version if they select one alone, and an
//! attribute that has to have a certain value.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::event_type::EventTypePattern;
use crate::select::TypeVersion;

/// An index that finds the entries whose patterns select an event type.
///
/// All patterns without a wildcard together cost one hash look-up. Patterns with a wildcard are in a trie of their tokens:
/// an event type walks the branches that fit it, so the cost grows with what matches, not with what there is. An entry
/// that matches by several of its patterns is found once. Entries that need an attribute to have a certain value are
/// found by that value, again with one hash look-up for each attribute. How many events that passed such an entry over is
/// known from counts of its patterns, which cost an event nothing for each entry.
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

type Count = Arc<AtomicU64>;

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

/// An attribute, and the value that it has to have.
type Needs = (Box<str>, Box<str>);

/// A pattern, and the major version that an event has to have.
type Pattern = (EventTypePattern, Option<u32>);

/// A place of an entry: its slot, and what an event has to have besides the type.
#[derive(Clone, Copy)]
struct Place<'a> {
    slot: usize,
    major: Option<u32>,
    needs: Option<&'a Needs>,
}

/// What an event has besides its type.
struct Seen<A> {
    major: Option<u32>,
    attribute: A,
}

/// Entries of one pattern: those that need nothing more, and the others by attribute and value; then those of one major
/// version alone.
#[derive(Debug, Default)]
struct Slots {
    all: Vec<usize>,
    /// The events that the pattern has selected while there were others.
    selected: Count,
    by_value: HashMap<Box<str>, HashMap<Box<str>, Vec<usize>>>,
    majors: BTreeMap<u32, Slots>,
}

impl Slots {
    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.by_value.is_empty() && self.majors.is_empty()
    }

    /// Adds an entry, and returns the count of the events that the pattern selects.
    fn insert(&mut self, Place { slot, major, needs }: Place<'_>) -> Count {
        if let Some(major) = major {
            return self.majors.entry(major).or_default().insert(Place { slot, major: None, needs });
        }
        match needs {
            None => self.all.push(slot),
            Some((name, value)) => {
                self.by_value.entry(name.clone()).or_default().entry(value.clone()).or_default().push(slot);
            }
        }
        Arc::clone(&self.selected)
    }

    fn remove(&mut self, Place { slot, major, needs }: Place<'_>) {
        if let Some(major) = major {
            if let Some(slots) = self.majors.get_mut(&major) {
                slots.remove(Place { slot, major: None, needs });
                if slots.is_empty() {
                    self.majors.remove(&major);
                }
            }
            return;
        }
        let Some((name, value)) = needs else { return take_out(&mut self.all, slot) };
        let Some(values) = self.by_value.get_mut(name) else { return };
        if let Some(slots) = values.get_mut(value) {
            take_out(slots, slot);
            if slots.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.by_value.remove(name);
        }
    }

    fn find<'e>(&self, seen: &Seen<impl Fn(&str) -> Option<Cow<'e, str>>>, found: &mut Vec<usize>) {
        found.extend_from_slice(&self.all);
        if !self.by_value.is_empty() {
            self.selected.fetch_add(1, Ordering::Relaxed);
        }
        for (name, values) in &self.by_value {
            if let Some(slots) = (seen.attribute)(name).and_then(|value| values.get(&*value)) {
                found.extend_from_slice(slots);
            }
        }
        if let Some(slots) = seen.major.and_then(|major| self.majors.get(&major)) {
            slots.find(seen, found);
        }
    }
}

/// A node of the trie: the patterns that begin with the tokens on the way to it.
#[derive(Debug, Default)]
struct Node {
    /// The entries whose pattern ends here.
    end: Slots,
    /// The entries whose pattern goes on with `>`.
    rest: Slots,
    /// The patterns that go on with `*`.
    any: Option<Box<Node>>,
    /// The patterns that go on with a token.
    tokens: HashMap<Box<str>, Node>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.end.is_empty() && self.rest.is_empty() && self.any.is_none() && self.tokens.is_empty()
    }

    fn insert(&mut self, pattern: &str, place: Place<'_>) -> Count {
        let mut node = self;
        for token in pattern.split('.') {
            match token {
                ">" => return node.rest.insert(place),
                "*" => node = node.any.get_or_insert_default(),
                token => node = node.tokens.entry(token.into()).or_default(),
            }
        }
        node.end.insert(place)
    }

    fn remove(&mut self, pattern: &str, place: Place<'_>) {
        let (token, tail) = pattern.split_once('.').map_or((pattern, None), |(token, tail)| (token, Some(tail)));
        let within = |node: &mut Node| match tail {
            Some(tail) => node.remove(tail, place),
            None => node.end.remove(place),
        };
        match token {
            ">" => self.rest.remove(place),
            "*" => {
                if let Some(any) = &mut self.any {
                    within(any);
                    if any.is_empty() {
                        self.any = None;
                    }
                }
            }
            token => {
                if let Some(node) = self.tokens.get_mut(token) {
                    within(node);
                    if node.is_empty() {
                        self.tokens.remove(token);
                    }
                }
            }
        }
    }

    /// Adds the slots of the patterns that select the rest of an event type, which has at least one token.
    fn find<'e>(&self, event_type: &str, seen: &Seen<impl Fn(&str) -> Option<Cow<'e, str>>>, found: &mut Vec<usize>) {
        self.rest.find(seen, found);
        let (token, tail) = event_type.split_once('.').map_or((event_type, None), |(token, tail)| (token, Some(tail)));
        for node in self.any.as_deref().into_iter().chain(self.tokens.get(token)) {
            match tail {
                Some(tail) => node.find(tail, seen, found),
                None => node.end.find(seen, found),
            }
        }
    }
}

fn take_out(slots: &mut Vec<usize>, slot: usize) {
    if let Some(at) = slots.iter().position(|other| *other == slot) {
        slots.swap_remove(at);
    }
}

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
    /// `major` is the event's major version, if it has one. `attribute` returns the value of an attribute, if the event
    /// has it.
    #[must_use]
    pub fn matches<'e>(
        &self,
        event_type: &str,
        major: Option<u32>,
        attribute: impl Fn(&str) -> Option<Cow<'e, str>>,
    ) -> Vec<T> {
        let value = |slot: &usize| {
            let entry = self.entries[*slot].as_ref()?;
            if entry.needs.is_some() {
                entry.found.fetch_add(1, Ordering::Relaxed);
            }
            Some(entry.value.clone())
        };
        let seen = Seen { major, attribute };
        let mut found = Vec::new();
        self.wildcards.find(event_type, &seen, &mut found);
        let exact = self.exact.get(event_type);
        if found.is_empty()
            && let Some(Slots { all, by_value, majors, .. }) = exact
            && by_value.is_empty()
            && majors.is_empty()
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
