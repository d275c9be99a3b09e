use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn patterns(texts: &[&str]) -> Vec<EventTypePattern> {
    texts.iter().map(|text| EventTypePattern::parse(text).unwrap()).collect()
}

fn sorted(matcher: &Matcher<u8, &'static str>, event_type: &str) -> Vec<&'static str> {
    let mut found = matcher.matches(event_type, Some(1), |name| (name == "tenantid").then_some("acme".into()));
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
        let mut found = matcher.matches(event_type, major, |_| Some("acme".into()));
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
            let mut found = matcher.matches(&event_type, None, |_| None);
            wanted.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, wanted, "{}", event_type);
        }
    }
}
