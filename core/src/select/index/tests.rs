use std::borrow::Cow;
use std::cell::Cell;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::event::Event;
use crate::expression::Variables;

/// The attributes of an event, and how many were looked at.
#[derive(Default)]
struct Pairs {
    pairs: Vec<(String, String)>,
    looks: Cell<usize>,
}

impl Pairs {
    fn of(pairs: &[(&str, &str)]) -> Self {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { pairs, looks: Cell::default() }
    }

    fn look(&self, looks: usize) {
        self.looks.set(self.looks.get() + looks);
    }
}

impl Attributes for Pairs {
    fn count(&self) -> usize {
        self.pairs.len()
    }

    fn names(&self) -> Vec<&str> {
        self.look(self.pairs.len());
        self.pairs.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.look(1);
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.into())
    }
}

fn patterns(texts: &[&str]) -> Vec<EventTypePattern> {
    texts.iter().map(|text| EventTypePattern::parse(text).unwrap()).collect()
}

fn sorted(matcher: &Matcher<u8, &'static str>, event_type: &str) -> Vec<&'static str> {
    let mut found = matcher.matches(event_type, Some(1), &Pairs::of(&[("tenantid", "acme")]));
    found.sort_unstable();
    found
}

#[test]
fn each_entry_once_and_gone_when_removed() {
    let mut matcher = Matcher::default();
    matcher.insert(&1, &patterns(&["order.*", "order.created", ">"]), &[], None, &"all");
    matcher.insert(&2, &patterns(&["order.created"]), &[], None, &"created");
    matcher.insert(&3, &patterns(&["invoice.>", "*.line.added"]), &[], None, &"invoices");
    assert_eq!(sorted(&matcher, "order.created"), ["all", "created"]);
    assert_eq!(sorted(&matcher, "order.updated"), ["all"]);
    assert_eq!(sorted(&matcher, "invoice.line.added"), ["all", "invoices"]);
    matcher.insert(&1, &patterns(&["order.updated"]), &[], None, &"edited");
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
        matcher.insert(&1, &patterns, &[], Some(("tenantid", "acme")), &"acme");
        matcher.insert(&2, &patterns, &[], Some(("tenantid", "other")), &"other");
        matcher.insert(&3, &patterns, &[], Some(("missing", "acme")), &"missing");
        matcher.insert(&4, &patterns, &[], None, &"all");
        assert_eq!(sorted(&matcher, "order.created"), ["acme", "all"], "{pattern}");
    }
    for key in 1..=4 {
        matcher.remove(&key);
    }
    assert!(matcher.is_empty() && matcher.wildcards.is_empty() && matcher.exact.is_empty());
}

#[test]
fn what_passes_an_entry_over_is_counted_once() {
    let mut matcher = Matcher::default();
    let needs = |value| Some(("tenantid", value));
    matcher.insert(&1, &patterns(&["order.created", "order.*", "invoice"]), &[], needs("acme"), &"acme");
    matcher.insert(&2, &patterns(&["order.*", "invoice"]), &[], needs("other"), &"other");
    matcher.insert(&3, &patterns(&["order.*", "*.created"]), &[], needs("third"), &"overlaps");
    matcher.insert(&4, &patterns(&[">"]), &[], None, &"all");
    for _ in 0..3 {
        sorted(&matcher, "order.created");
        sorted(&matcher, "order.updated");
        sorted(&matcher, "invoice");
        sorted(&matcher, "none");
    }
    assert_eq!(sorted(&matcher, "order.created"), ["acme", "all", "overlaps"], "not by its value");
    let passed_over = |matcher: &Matcher<_, _>| matcher.passed_over(Few::Later).collect::<Vec<_>>();
    assert_eq!(passed_over(&matcher), [("other", 10)]);
    assert_eq!(passed_over(&matcher), []);
    sorted(&matcher, "invoice");
    matcher.insert(&5, &patterns(&["invoice"]), &[], needs("late"), &"late");
    sorted(&matcher, "invoice");
    assert_eq!(passed_over(&matcher), [("other", 2), ("late", 1)]);
    matcher.insert(&2, &patterns(&["invoice"]), &[], needs("other"), &"edited");
    sorted(&matcher, "invoice");
    assert_eq!(passed_over(&matcher), [("edited", 1), ("late", 1)]);
    for (events, told) in [(22, vec![22]), (1, vec![]), (0, vec![1]), (2, vec![]), (1, vec![3])] {
        (0..events).for_each(|_| drop(sorted(&matcher, "invoice")));
        let few = if events == 0 { Few::Now } else { Few::Later };
        let mut found: Vec<u64> = matcher.passed_over(few).map(|(_, events)| events).collect();
        found.dedup();
        assert_eq!(found, told, "after {events} more");
    }
}

#[test]
fn one_major_version_alone() {
    let version = |pattern: &str, major| TypeVersion { event_type: EventTypePattern::parse(pattern).unwrap(), major };
    let mut matcher = Matcher::default();
    assert!(!matcher.is_versioned());
    let needs = |value| Some(("tenantid", value));
    matcher.insert(&1, &[], &[version("order.*", 1)], None, &"one");
    matcher.insert(&2, &[], &[version("order.*", 2), version("order.created", 2)], None, &"two");
    matcher.insert(&3, &patterns(&["order.created"]), &[version("order.*", 2)], needs("acme"), &"both");
    matcher.insert(&4, &[], &[version("order.*", 1), version("order.>", 2)], needs("other"), &"other");
    matcher.insert(&5, &patterns(&[">"]), &[version("order.*", 2)], needs("other"), &"any");
    assert!(matcher.is_versioned());
    let found = |matcher: &Matcher<u8, &'static str>, event_type, major| {
        let mut found = matcher.matches(event_type, major, &Pairs::of(&[("tenantid", "acme")]));
        found.sort_unstable();
        found
    };
    for (event_type, major, want) in [
        ("order.created", Some(1), &["both", "one"][..]),
        ("order.created", Some(2), &["both", "two"]),
        ("order.updated", Some(2), &["both", "two"]),
        ("order.updated", Some(1), &["one"]),
        ("order.updated", Some(3), &[]),
        ("order.created", None, &["both"]),
        ("order.updated", None, &[]),
        ("invoice", Some(1), &[]),
    ] {
        assert_eq!(found(&matcher, event_type, major), want, "{event_type} {major:?}");
    }
    // Events of other versions are not passed over: they are not selected.
    assert_eq!(matcher.passed_over(Few::Later).collect::<Vec<_>>(), [("other", 4), ("any", 8)]);
    (1..=5).for_each(|key| matcher.remove(&key));
    assert!(matcher.is_empty() && !matcher.is_versioned());
    assert!(matcher.wildcards.is_empty() && matcher.exact.is_empty());
}

#[test]
fn an_event_looks_at_the_names_that_it_has_or_that_entries_need_whichever_are_fewer() {
    let mut matcher = Matcher::default();
    let names: Vec<String> = (0..10_000).map(|n| format!("name{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        matcher.insert(&n, &patterns(&["order.*"]), &[], Some((name, "x")), &n);
    }
    let event = Pairs::of(&[("name7", "x"), ("name8", "y"), ("other", "x")]);
    assert_eq!(matcher.matches("order.created", None, &event), [7]);
    assert!(event.looks.get() <= 2 * event.count(), "{}", event.looks.get());

    let mut matcher = Matcher::default();
    matcher.insert(&1, &patterns(&["order.*"]), &[], Some(("name7", "x")), &1);
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let event = Pairs::of(&many);
    assert_eq!(matcher.matches("order.created", None, &event), [1]);
    assert_eq!(event.looks.get(), 1);
}

#[test]
fn attributes_of_each_form_of_events_find_each_entry_once() {
    let text = HeaderValue::from_static;
    let headers = |pairs: &[(&'static str, HeaderValue)]| {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.clone())).collect::<HeaderMap>()
    };
    let binary = [("ce-id", text("a")), ("ce-tenantid", text("x%20y")), ("ce-source", text("/s"))];
    let binary = Event::new("t", headers(&binary), Bytes::new());
    let body = Bytes::from_static(br#"{"id":null,"type":"t","tenantid":"x y","source":"/s"}"#);
    let mut structured = Event::new("t", headers(&[("content-type", text("application/cloudevents+json"))]), body);
    structured.stand_ins = Some(Box::new(headers(&[("ce-id", text("a"))])));
    let needs = [("id", "a"), ("type", "t"), ("tenantid", "x y"), ("source", "/s"), ("time", "a"), ("id", "b")];
    // With few names the entries' are looked at, and with many the event's.
    for others in [0, 100] {
        let mut matcher = Matcher::default();
        for (n, (name, value)) in needs.into_iter().enumerate() {
            matcher.insert(&n, &patterns(&["t"]), &[], Some((name, value)), &n);
        }
        for n in needs.len()..needs.len() + others {
            matcher.insert(&n, &patterns(&["t"]), &[], Some((&format!("other{n}"), "a")), &n);
        }
        for event in [&binary, &structured] {
            let mut found = matcher.matches("t", None, &Variables::of(event));
            found.sort_unstable();
            assert_eq!(found, [0, 1, 2, 3], "beside {others} others");
        }
    }
}

#[test]
fn an_event_visits_less_than_two_nodes_for_each_pattern_whose_beginning_fits() {
    const BRANCHES: usize = 8;
    let tail = "a.".repeat(100);
    let mut trie = Node::default();
    let mut written = Vec::new();
    for n in 0..1 << BRANCHES {
        let head: String = (0..BRANCHES).map(|bit| if (n >> bit) & 1 == 0 { "a." } else { "*." }).collect();
        written.extend(["b", "c", "b.>"].map(|last| format!("{head}{tail}{last}")));
    }
    let place = |slot| Place { slot, major: None, needs: None };
    for (slot, pattern) in written.iter().enumerate() {
        trie.insert(pattern, place(slot));
    }
    let visits = |trie: &Node, last: &str| {
        let event_type = format!("{}{tail}{last}", "a.".repeat(BRANCHES));
        let (mut visits, mut found) = (0, Vec::new());
        let seen = Seen { major: None, attributes: &() };
        trie.visit(Some(&event_type), &mut |slots: &Slots| {
            visits += 1;
            slots.find(&seen, &mut found);
        });
        (visits, found.len())
    };
    for (last, want) in [("b", 1), ("c", 1), ("b.b", 1), ("none", 0)] {
        let (visits, found) = visits(&trie, last);
        assert_eq!(found, want << BRANCHES, "{last}");
        assert!(visits < 2 * written.len(), "{visits} visits for {} patterns", written.len());
    }
    // What is left after others have gone is as short.
    let (gone, left) = written.split_at(written.len() - 3);
    gone.iter().enumerate().for_each(|(slot, pattern)| trie.remove(pattern, place(slot)));
    let (visits, found) = visits(&trie, "b");
    assert!(visits < 2 * left.len() && found == 1, "{visits} visits, {found} found");
    left.iter().enumerate().for_each(|(n, pattern)| trie.remove(pattern, place(gone.len() + n)));
    assert!(trie.is_empty());
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
                    matcher.insert(&key, &patterns, &[], None, &key);
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
            let mut found = matcher.matches(&event_type, None, &());
            wanted.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, wanted, "{}", event_type);
        }
    }

    #[test]
    fn finds_those_whose_value_the_event_has(
        needs in vec(("[a-h]", "[xy]"), 0..12),
        event in btree_map("[a-h]", "[xy]", 0..6),
    ) {
        let mut matcher = Matcher::default();
        for (n, (name, value)) in needs.iter().enumerate() {
            matcher.insert(&n, &[EventTypePattern::all()], &[], Some((name, value)), &n);
        }
        let has = |(_, (name, value)): &(usize, &(String, String))| event.get(name) == Some(value);
        let wanted: Vec<usize> = needs.iter().enumerate().filter(has).map(|(n, _)| n).collect();
        let attributes = Pairs { pairs: event.clone().into_iter().collect(), ..Pairs::default() };
        let mut found = matcher.matches("t", None, &attributes);
        found.sort_unstable();
        prop_assert_eq!(found, wanted);
    }
}
