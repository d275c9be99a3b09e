use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn t(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

fn uid(name: &str) -> SubscriptionUid {
    SubscriptionUid::parse(name).unwrap()
}

/// Asks for each of these Subscriptions, such as `a1` of namespace `a`. Returns those that have a turn.
fn ask(turns: &mut Turns, all: &[&str], now: i64) -> String {
    let mut has = |name: &str, now| turns.ask(&name[..1], &uid(name), t(0), t(now));
    for name in all {
        has(name, now);
    }
    // The second round tells of turns that have ended.
    all.iter().filter(|name| has(name, now + 100)).copied().collect::<Vec<_>>().join(" ")
}

#[test]
fn turns_go_by_namespace_first_and_then_to_the_one_that_has_waited_longest() {
    let mut turns = Turns::new(3);
    assert_eq!(ask(&mut turns, &["a1", "a2", "a3", "a4"], 100), "a1 a2 a3");
    // Another namespace gets its share at once, one by one, and not more than that.
    let all = ["a1", "a2", "a3", "a4", "b1", "b2", "b3"];
    assert_eq!(ask(&mut turns, &all, 500), "a2 a3 b1");
    assert_eq!(ask(&mut turns, &all, 9_000), "a2 a3 b1");
    // After a while others of the namespace have their turns: first those that have never had one.
    assert_eq!(ask(&mut turns, &all, 10_200), "a4 b1 b2");
    turns.leave("b", &uid("b2"));
    let all = ["a1", "a2", "a3", "a4", "b1", "b3"];
    assert_eq!(ask(&mut turns, &all, 10_350), "a4 b1 b3");
    for name in ["b1", "b3"] {
        turns.leave("b", &uid(name));
    }
    assert_eq!(ask(&mut turns, &all[..4], 10_480), "a1 a2 a4");
    for name in ["a1", "a2", "a3", "a4", "a5"] {
        turns.leave("a", &uid(name));
    }
    assert!(turns.namespaces.is_empty() && turns.taken == 0);
}

#[test]
fn one_turn_goes_round() {
    let mut turns = Turns::new(1);
    let all = ["a1", "a2", "b1"];
    let had: Vec<String> = (0..6).map(|n| ask(&mut turns, &all, 10_000 * n)).collect();
    assert_eq!(had, ["a1", "a2", "b1", "a1", "a2", "b1"]);
}

#[derive(Debug, Clone)]
enum Change {
    Ask(usize),
    Leave(usize),
    Wait(i64),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let one = prop_oneof![
        4 => (0..12_usize).prop_map(Change::Ask),
        1 => (0..12_usize).prop_map(Change::Leave),
        2 => (1..6_000_i64).prop_map(Change::Wait),
    ];
    prop::collection::vec(one, 1..200)
}

proptest! {
    /// However Subscriptions come, ask and go: no more have a turn than may, none waits while one is free, and none waits for
    /// long.
    #[test]
    fn turns_are_shared(most in 1..5_usize, changes in changes()) {
        let names = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "b1", "b2", "c1", "c2", "d1"];
        let (mut turns, mut now, mut there) = (Turns::new(most), 0, BTreeMap::new());
        for change in changes {
            match change {
                Change::Ask(n) => {
                    turns.ask(&names[n][..1], &uid(names[n]), t(now), t(now));
                    there.insert(names[n], ());
                }
                Change::Leave(n) => {
                    turns.leave(&names[n][..1], &uid(names[n]));
                    there.remove(names[n]);
                }
                Change::Wait(millis) => now += millis,
            }
            let has: usize = turns.namespaces.values().map(|of| of.has.len()).sum();
            let waits: usize = turns.namespaces.values().map(|of| of.waits.len()).sum();
            let queued: usize = turns.namespaces.values().map(|of| of.queue.len()).sum();
            prop_assert_eq!((has, waits + has, queued), (turns.taken, there.len(), waits));
            prop_assert!(has <= most);
            prop_assert!(!matches!(change, Change::Ask(_)) || has == most.min(there.len()));
        }
        // From now on all go on asking.
        let all: Vec<&str> = there.keys().copied().collect();
        let mut had = BTreeMap::new();
        for _ in 0..all.len() * 4 {
            now += 5_000;
            for name in ask(&mut turns, &all, now).split_whitespace() {
                *had.entry(name.to_owned()).or_insert(0) += 1;
            }
            let counts = |of: &Namespace| (of.has.len(), of.waits.len());
            let counts: Vec<_> = turns.namespaces.values().map(counts).collect();
            let fewest = counts.iter().filter(|(_, waits)| *waits > 0).map(|(has, _)| *has).min();
            let largest = counts.iter().map(|(has, _)| *has).max();
            prop_assert!(fewest.is_none_or(|fewest| largest.unwrap_or(0) <= fewest + 1), "{:?}", counts);
        }
        prop_assert_eq!(had.len(), all.len(), "{:?} of {:?}", had, all);
    }
}
