//! The index of Subscriptions by the event types that they select, and by an attribute that has to have a certain value.

use std::collections::HashMap;
use std::hash::Hash;

use crate::event::event_type::EventTypePattern;

/// An index that finds the entries whose patterns select an event type.
///
/// All patterns without a wildcard together cost one hash look-up. Patterns with a wildcard are in a trie of their tokens:
/// an event type walks the branches that fit it, so the cost grows with what matches, not with what there is. An entry
/// that matches by several of its patterns is found once. Entries that need an attribute to have a certain value are
/// found by that value, again with one hash look-up for each attribute.
#[derive(Debug, Clone)]
pub struct Matcher<K, T> {
    slots: HashMap<K, usize>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<usize>,
    exact: HashMap<String, Slots>,
    wildcards: Node,
    /// The number of entries with more than one pattern. While it is zero, no entry can be found twice.
    several: usize,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    patterns: Vec<EventTypePattern>,
    needs: Option<Needs>,
    value: T,
}

/// An attribute, and the value that it has to have.
type Needs = (Box<str>, Box<str>);

/// Entries of one pattern: those that need nothing more, and the others by attribute and value.
#[derive(Debug, Clone, Default)]
struct Slots {
    all: Vec<usize>,
    by_value: HashMap<Box<str>, HashMap<Box<str>, Vec<usize>>>,
}

impl Slots {
    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.by_value.is_empty()
    }

    fn insert(&mut self, slot: usize, needs: Option<&Needs>) {
        match needs {
            None => self.all.push(slot),
            Some((name, value)) => {
                self.by_value.entry(name.clone()).or_default().entry(value.clone()).or_default().push(slot);
            }
        }
    }

    fn remove(&mut self, slot: usize, needs: Option<&Needs>) {
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

    fn find(&self, attribute: &impl Fn(&str) -> Option<String>, found: &mut Vec<usize>) {
        found.extend_from_slice(&self.all);
        for (name, values) in &self.by_value {
            if let Some(slots) = attribute(name).and_then(|value| values.get(value.as_str())) {
                found.extend_from_slice(slots);
            }
        }
    }
}

/// A node of the trie: the patterns that begin with the tokens on the way to it.
#[derive(Debug, Clone, Default)]
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

    fn insert(&mut self, pattern: &str, slot: usize, needs: Option<&Needs>) {
        let mut node = self;
        for token in pattern.split('.') {
            match token {
                ">" => return node.rest.insert(slot, needs),
                "*" => node = node.any.get_or_insert_default(),
                token => node = node.tokens.entry(token.into()).or_default(),
            }
        }
        node.end.insert(slot, needs);
    }

    fn remove(&mut self, pattern: &str, slot: usize, needs: Option<&Needs>) {
        let (token, tail) = pattern.split_once('.').map_or((pattern, None), |(token, tail)| (token, Some(tail)));
        let within = |node: &mut Node| match tail {
            Some(tail) => node.remove(tail, slot, needs),
            None => node.end.remove(slot, needs),
        };
        match token {
            ">" => self.rest.remove(slot, needs),
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
    fn find(&self, event_type: &str, attribute: &impl Fn(&str) -> Option<String>, found: &mut Vec<usize>) {
        self.rest.find(attribute, found);
        let (token, tail) = event_type.split_once('.').map_or((event_type, None), |(token, tail)| (token, Some(tail)));
        for node in self.any.as_deref().into_iter().chain(self.tokens.get(token)) {
            match tail {
                Some(tail) => node.find(tail, attribute, found),
                None => node.end.find(attribute, found),
            }
        }
    }
}

fn take_out(slots: &mut Vec<usize>, slot: usize) {
    if let Some(at) = slots.iter().position(|other| *other == slot) {
        slots.swap_remove(at);
    }
}

/// The attribute to find an entry by: rather one that tells tenants apart than one that most events share.
fn chosen(needs: &[(&str, &str)]) -> Option<Needs> {
    let is_common = |name: &str| matches!(name, "type" | "source" | "specversion" | "datacontenttype" | "dataschema");
    let (name, value) = needs.iter().min_by_key(|(name, _)| is_common(name))?;
    Some(((*name).into(), (*value).into()))
}

impl<K, T> Default for Matcher<K, T> {
    fn default() -> Self {
        let (slots, entries, free) = (HashMap::new(), Vec::new(), Vec::new());
        Self { slots, entries, free, exact: HashMap::new(), wildcards: Node::default(), several: 0 }
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Matcher<K, T> {
    /// Adds an entry under its patterns, in place of the entry that has the same key. `needs` are attributes that have to
    /// have these values for the entry to be of use.
    pub fn insert(&mut self, key: &K, patterns: &[EventTypePattern], needs: &[(&str, &str)], value: &T) {
        self.remove(key);
        let mut patterns = patterns.to_vec();
        patterns.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        patterns.dedup();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        let needs = chosen(needs);
        for pattern in &patterns {
            if pattern.is_exact() {
                self.exact.entry(pattern.as_str().to_owned()).or_default().insert(slot, needs.as_ref());
            } else {
                self.wildcards.insert(pattern.as_str(), slot, needs.as_ref());
            }
        }
        self.several += usize::from(patterns.len() > 1);
        self.slots.insert(key.clone(), slot);
        self.entries[slot] = Some(Entry { patterns, needs, value: value.clone() });
    }

    /// Removes the entry with this key, if there is one.
    pub fn remove(&mut self, key: &K) {
        let Some(slot) = self.slots.remove(key) else { return };
        let Some(entry) = self.entries[slot].take() else { return };
        self.free.push(slot);
        self.several -= usize::from(entry.patterns.len() > 1);
        for pattern in &entry.patterns {
            if !pattern.is_exact() {
                self.wildcards.remove(pattern.as_str(), slot, entry.needs.as_ref());
            } else if let Some(slots) = self.exact.get_mut(pattern.as_str()) {
                slots.remove(slot, entry.needs.as_ref());
                if slots.is_empty() {
                    self.exact.remove(pattern.as_str());
                }
            }
        }
    }

    /// The entries that select this event type, each once, except those that need another value of an attribute.
    /// `attribute` returns the value of an attribute, if the event has it.
    #[must_use]
    pub fn matches(&self, event_type: &str, attribute: impl Fn(&str) -> Option<String>) -> Vec<T> {
        let value = |slot: &usize| self.entries[*slot].as_ref().map(|entry| entry.value.clone());
        let mut found = Vec::new();
        self.wildcards.find(event_type, &attribute, &mut found);
        let exact = self.exact.get(event_type);
        if found.is_empty()
            && let Some(Slots { all, by_value }) = exact
            && by_value.is_empty()
        {
            return all.iter().filter_map(value).collect();
        }
        exact.iter().for_each(|slots| slots.find(&attribute, &mut found));
        if self.several > 0 {
            found.sort_unstable();
            found.dedup();
        }
        found.iter().filter_map(value).collect()
    }

    /// Whether the index has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn patterns(texts: &[&str]) -> Vec<EventTypePattern> {
        texts.iter().map(|text| EventTypePattern::parse(text).unwrap()).collect()
    }

    fn sorted(matcher: &Matcher<u8, &'static str>, event_type: &str) -> Vec<&'static str> {
        let mut found = matcher.matches(event_type, |name| (name == "tenantid").then(|| "acme".to_owned()));
        found.sort_unstable();
        found
    }

    #[test]
    fn each_entry_once_and_gone_when_removed() {
        let mut matcher = Matcher::default();
        matcher.insert(&1, &patterns(&["order.*", "order.created", ">"]), &[], &"all");
        matcher.insert(&2, &patterns(&["order.created"]), &[], &"created");
        matcher.insert(&3, &patterns(&["invoice.>", "*.line.added"]), &[], &"invoices");
        assert_eq!(sorted(&matcher, "order.created"), ["all", "created"]);
        assert_eq!(sorted(&matcher, "order.updated"), ["all"]);
        assert_eq!(sorted(&matcher, "invoice.line.added"), ["all", "invoices"]);
        matcher.insert(&1, &patterns(&["order.updated"]), &[], &"edited");
        assert_eq!(sorted(&matcher, "order.created"), ["created"]);
        assert_eq!(sorted(&matcher, "order.updated"), ["edited"]);
        matcher.remove(&1);
        matcher.remove(&2);
        assert!(sorted(&matcher, "order.created").is_empty() && !matcher.is_empty());
        matcher.remove(&3);
        assert!(matcher.is_empty() && matcher.wildcards.is_empty() && matcher.exact.is_empty());
    }

    #[test]
    fn entries_that_need_a_value_are_found_by_it_alone() {
        let mut matcher = Matcher::default();
        for pattern in ["order.created", "order.*", ">", "order.>"] {
            let patterns = patterns(&[pattern, "other"]);
            matcher.insert(&1, &patterns, &[("source", "x"), ("tenantid", "acme")], &"acme");
            matcher.insert(&2, &patterns, &[("tenantid", "other")], &"other");
            matcher.insert(&3, &patterns, &[("missing", "acme")], &"missing");
            matcher.insert(&4, &patterns, &[], &"all");
            assert_eq!(sorted(&matcher, "order.created"), ["acme", "all"], "{pattern}");
        }
        for key in 1..=4 {
            matcher.remove(&key);
        }
        assert!(matcher.is_empty() && matcher.wildcards.is_empty() && matcher.exact.is_empty());
    }

    fn pattern() -> impl Strategy<Value = EventTypePattern> {
        let token = prop_oneof![Just("a"), Just("b"), Just("*")];
        (vec(token, 1..4), any::<bool>()).prop_map(|(mut tokens, rest)| {
            if rest {
                tokens.push(">");
            }
            EventTypePattern::parse(&tokens.join(".")).unwrap()
        })
    }

    proptest! {
        #[test]
        fn finds_what_the_patterns_say_after_any_edits(
            edits in vec((0..6u8, prop::option::of(vec(pattern(), 1..4))), 1..30),
            types in vec(vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..5), 1..8),
        ) {
            let (mut matcher, mut plain) = (Matcher::default(), HashMap::new());
            for (key, patterns) in edits {
                match patterns {
                    Some(patterns) => {
                        matcher.insert(&key, &patterns, &[], &key);
                        plain.insert(key, patterns);
                    }
                    None => {
                        matcher.remove(&key);
                        plain.remove(&key);
                    }
                }
            }
            for event_type in types.iter().map(|tokens| tokens.join(".")) {
                let selects = |patterns: &[EventTypePattern]| patterns.iter().any(|p| p.matches(&event_type));
                let mut wanted: Vec<u8> = plain.iter().filter(|(_, p)| selects(p)).map(|(key, _)| *key).collect();
                let mut found = matcher.matches(&event_type, |_| None);
                wanted.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, wanted, "{}", event_type);
            }
        }
    }
}
