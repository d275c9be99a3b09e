//! The subscription index: from an event type to those who want it.

use std::collections::HashMap;

use crate::event_type::EventTypePattern;

/// Finds the entries whose patterns select an event type. Patterns without a wildcard cost one hash look-up together;
/// those with one are tried in turn.
#[derive(Debug, Clone)]
pub struct Matcher<T> {
    entries: Vec<T>,
    exact: HashMap<String, Vec<usize>>,
    wildcards: Vec<(EventTypePattern, usize)>,
}

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), exact: HashMap::new(), wildcards: Vec::new() }
    }
}

impl<T> Matcher<T> {
    /// Adds an entry under its patterns.
    pub fn insert<'a>(&mut self, patterns: impl IntoIterator<Item = &'a EventTypePattern>, entry: T) {
        let index = self.entries.len();
        self.entries.push(entry);
        for pattern in patterns {
            if pattern.is_exact() {
                self.exact.entry(pattern.as_str().to_owned()).or_default().push(index);
            } else {
                self.wildcards.push((pattern.clone(), index));
            }
        }
    }

    /// The entries that want this event type, each once, in the order of their insertion.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> Vec<&T> {
        let mut found: Vec<usize> = self.exact.get(event_type).cloned().unwrap_or_default();
        found.extend(self.wildcards.iter().filter(|(pattern, _)| pattern.matches(event_type)).map(|(_, index)| *index));
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|index| self.entries.get(index)).collect()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_once() {
        let patterns = |texts: &[&str]| texts.iter().map(|t| EventTypePattern::parse(t).unwrap()).collect::<Vec<_>>();
        let mut matcher = Matcher::default();
        matcher.insert(&patterns(&["order.*", "order.created", ">"]), "all");
        matcher.insert(&patterns(&["order.created"]), "created");
        matcher.insert(&patterns(&["invoice.>"]), "invoices");
        assert_eq!(matcher.matches("order.created"), [&"all", &"created"]);
        assert_eq!(matcher.matches("order.updated"), [&"all"]);
        assert_eq!(matcher.matches("invoice.line.added"), [&"all", &"invoices"]);
        assert_eq!(matcher.len(), 3);
    }
}
