//! The index of Subscriptions by the event types that they select.

use std::collections::HashMap;
use std::hash::Hash;

use crate::event::event_type::EventTypePattern;

/// An index that finds the entries whose patterns select an event type.
///
/// All patterns without a wildcard together cost one hash look-up; patterns with a wildcard are tried one by one.
/// Adding or removing an entry without wildcards costs one look-up for each of its patterns.
#[derive(Debug, Clone)]
pub struct Matcher<K, T> {
    patterns: HashMap<K, Vec<EventTypePattern>>,
    exact: HashMap<String, HashMap<K, T>>,
    wildcards: Vec<(EventTypePattern, K, T)>,
}

impl<K, T> Default for Matcher<K, T> {
    fn default() -> Self {
        Self { patterns: HashMap::new(), exact: HashMap::new(), wildcards: Vec::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord, T: Clone> Matcher<K, T> {
    /// Adds an entry under its patterns, in place of the entry that has the same key.
    pub fn insert(&mut self, key: &K, patterns: &[EventTypePattern], entry: &T) {
        self.remove(key);
        for pattern in patterns {
            if pattern.is_exact() {
                let entries = self.exact.entry(pattern.as_str().to_owned()).or_default();
                entries.insert(key.clone(), entry.clone());
            } else {
                self.wildcards.push((pattern.clone(), key.clone(), entry.clone()));
            }
        }
        self.patterns.insert(key.clone(), patterns.to_vec());
    }

    /// Removes the entry with this key, if there is one.
    pub fn remove(&mut self, key: &K) {
        let Some(patterns) = self.patterns.remove(key) else { return };
        if patterns.iter().any(|pattern| !pattern.is_exact()) {
            self.wildcards.retain(|(_, other, _)| other != key);
        }
        for pattern in patterns.iter().filter(|pattern| pattern.is_exact()) {
            if let Some(entries) = self.exact.get_mut(pattern.as_str()) {
                entries.remove(key);
                if entries.is_empty() {
                    self.exact.remove(pattern.as_str());
                }
            }
        }
    }

    /// The entries that select this event type, each once.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> Vec<T> {
        let exact = self.exact.get(event_type);
        let mut found: Vec<T> = exact.map(|entries| entries.values().cloned().collect()).unwrap_or_default();
        let mut seen: Vec<&K> = Vec::new();
        for (pattern, key, entry) in &self.wildcards {
            if pattern.matches(event_type) && !exact.is_some_and(|e| e.contains_key(key)) && !seen.contains(&key) {
                seen.push(key);
                found.push(entry.clone());
            }
        }
        found
    }

    /// Whether the index has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<EventTypePattern> {
        texts.iter().map(|text| EventTypePattern::parse(text).unwrap()).collect()
    }

    fn sorted(matcher: &Matcher<u8, &'static str>, event_type: &str) -> Vec<&'static str> {
        let mut found = matcher.matches(event_type);
        found.sort_unstable();
        found
    }

    #[test]
    fn each_entry_once_and_gone_when_removed() {
        let mut matcher = Matcher::default();
        matcher.insert(&1, &patterns(&["order.*", "order.created", ">"]), &"all");
        matcher.insert(&2, &patterns(&["order.created"]), &"created");
        matcher.insert(&3, &patterns(&["invoice.>", "*.line.added"]), &"invoices");
        assert_eq!(sorted(&matcher, "order.created"), ["all", "created"]);
        assert_eq!(sorted(&matcher, "order.updated"), ["all"]);
        assert_eq!(sorted(&matcher, "invoice.line.added"), ["all", "invoices"]);
        matcher.insert(&1, &patterns(&["order.updated"]), &"edited");
        assert_eq!(sorted(&matcher, "order.created"), ["created"]);
        assert_eq!(sorted(&matcher, "order.updated"), ["edited"]);
        matcher.remove(&1);
        matcher.remove(&2);
        assert!(sorted(&matcher, "order.created").is_empty() && !matcher.is_empty());
        matcher.remove(&3);
        assert!(matcher.is_empty());
    }
}
