//! The base: the counts of dispatchers that have gone.
//!
//! Folding a key takes two steps. The first adds the key's counts to the base and notes in the base how much was taken
//! from the key, in one compare-and-set. The second removes the key if it is still at the revision that was read. The
//! sum takes from each key only what the base has not taken. So the sum is the same before, between and after these
//! steps, however often and by however many operators they are done. If a dispatcher that was taken for dead goes on
//! counting under its key, what it adds counts once.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::summary::gather;
use super::{DeliveryCounts, FilterCounts, Tally, Waiting};

/// How long the base remembers what it took from a key after the key has gone. It is longer than a dispatcher can be
/// frozen and come back. While the key exists, the base never forgets it.
pub const REMEMBERED_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How many keys that have gone the base remembers at most; it forgets the oldest first.
pub const REMEMBERED: usize = 64;

/// The counts of one Subscription by all dispatchers that have gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaseCounts {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The sum of their counts. It includes corrections of `retrying` and `retrying_bytes`.
    pub counts: DeliveryCounts,
    /// What was taken from each dispatcher, by its incarnation.
    pub folded: BTreeMap<String, Folded>,
}

/// What the base has taken from one dispatcher's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Folded {
    /// When the base last took from the key.
    pub at: Timestamp,
    /// Everything that the base ever took from the key.
    pub taken: Tally,
    /// What the base took from the key of the filters' counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<FilterCounts>,
}

impl BaseCounts {
    /// The part of a key's counts that is not in the base yet; `None` if all of it is.
    #[must_use]
    pub fn rest_of(&self, incarnation: &str, counts: &DeliveryCounts) -> Option<DeliveryCounts> {
        let Some(folded) = self.folded.get(incarnation) else { return Some(counts.clone()) };
        let tally = counts.tally.since(folded.taken);
        let filters = counts.filters.as_ref().and_then(|filters| filters.since(folded.filters.as_ref()));
        if tally == Tally::default() && filters.is_none() {
            return None;
        }
        let mut rest = DeliveryCounts { tally, filters, ..counts.clone() };
        rest.failing = rest.failing.filter(|row| row.last > folded.at);
        rest.recent.retain(|given_up| given_up.time > folded.at);
        Some(rest)
    }

    /// Takes over a key's counts at `now`. `present` tells whether the key of an incarnation exists. Returns whether
    /// the base changed.
    pub fn fold(
        &mut self,
        incarnation: &str,
        counts: &DeliveryCounts,
        present: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> bool {
        let Some(rest) = self.rest_of(incarnation, counts) else { return false };
        self.counts = gather([&self.counts, &rest], now);
        self.counts.version = crate::codec::VERSION;
        self.version = crate::codec::VERSION;
        self.folded
            .insert(incarnation.to_owned(), Folded { at: now, taken: counts.tally, filters: counts.filters.clone() });
        self.forget(|name| name == incarnation || present(name), now);
        true
    }

    /// Corrects the amount of waiting deliveries by `drift`.
    pub const fn correct(&mut self, drift: Waiting) {
        self.version = crate::codec::VERSION;
        self.counts.version = crate::codec::VERSION;
        self.counts.tally.wait(drift);
    }

    /// Forgets keys that have gone. A forgotten key that exists, or comes back, would count in full a second time.
    fn forget(&mut self, present: impl Fn(&str) -> bool, now: Timestamp) {
        let folded = self.folded.iter().filter(|(name, _)| !present(name));
        let mut gone: Vec<(Timestamp, String)> = folded.map(|(name, folded)| (folded.at, name.clone())).collect();
        gone.sort_unstable();
        let many = gone.len().saturating_sub(REMEMBERED);
        for (n, (at, name)) in gone.into_iter().enumerate() {
            if n < many || now.duration_since(at) >= REMEMBERED_FOR {
                self.folded.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::tests::{attempt, given_up, t};
    use super::super::{Pending, Summary};
    use super::*;
    use crate::delivery::outcome::OutcomeKind;
    use proptest::prelude::*;

    fn counts(delivered: u64, retrying: i64) -> DeliveryCounts {
        let tally = Tally { delivered, retrying, ..Tally::default() };
        DeliveryCounts { version: 1, tally, ..DeliveryCounts::default() }
    }

    fn sum(base: &BaseCounts, keys: &[(&str, &DeliveryCounts)]) -> (u64, u64) {
        let keys: HashMap<String, DeliveryCounts> =
            keys.iter().map(|(name, counts)| ((*name).to_owned(), (*counts).clone())).collect();
        let sum = Summary::of(Some(base), &keys, t(0));
        (sum.delivered, sum.retrying)
    }

    fn none_there(_: &str) -> bool {
        false
    }

    #[test]
    fn a_fold_changes_no_sum_at_any_step() {
        let (dead, live) = (counts(3, 2), counts(4, -1));
        let mut base = BaseCounts::default();
        assert_eq!(sum(&base, &[("dead", &dead), ("live", &live)]), (7, 1));
        assert!(base.fold("dead", &dead, none_there, t(1)));
        assert_eq!(sum(&base, &[("dead", &dead), ("live", &live)]), (7, 1), "the base has it, the key is still there");
        assert!(!base.fold("dead", &dead, none_there, t(2)), "another operator does it again");
        assert_eq!(sum(&base, &[("live", &live)]), (7, 1), "the key has gone");
        // The dispatcher was not dead: it goes on counting under its key, and is folded again later.
        let back = counts(10, 5);
        assert_eq!(sum(&base, &[("dead", &back), ("live", &live)]), (14, 4));
        assert!(base.fold("dead", &back, none_there, t(3)));
        assert_eq!(sum(&base, &[("dead", &back), ("live", &live)]), (14, 4));
        assert_eq!(sum(&base, &[("live", &live)]), (14, 4));
        base.correct(Waiting { deliveries: -3, bytes: 0, unattempted: 0 });
        assert_eq!(sum(&base, &[("live", &live)]), (14, 1));
    }

    #[test]
    fn what_was_seen_goes_along() {
        let mut dead = counts(0, 1);
        for second in [0, 4, 11] {
            dead.attempt(attempt(second, OutcomeKind::Rejected));
        }
        dead.gave_up(given_up(12));
        dead.next_attempt = Some(t(100));
        dead.oldest_pending = Some(Pending { since: t(0), due: t(100) });
        let none = HashMap::new();
        let keys = HashMap::from([("dead".to_owned(), dead.clone())]);
        let before = Summary::of(None, &keys, t(20));
        let mut base = BaseCounts::default();
        base.fold("dead", &dead, none_there, t(20));
        assert_eq!(Summary::of(Some(&base), &keys, t(20)), before);
        assert_eq!(Summary::of(Some(&base), &none, t(20)), before);
        assert_eq!((before.signs.failures, before.next_attempt, before.oldest_pending), (3, Some(t(100)), Some(t(0))));
    }

    #[test]
    fn it_forgets_in_time_but_no_key_that_is_there() {
        let mut base = BaseCounts::default();
        let frozen = |name: &str| name == "i-0";
        for n in 0..100 {
            base.fold(&format!("i-{n}"), &counts(1, 0), frozen, t(n));
        }
        assert_eq!(
            (base.counts.tally.delivered, base.folded.len()),
            (100, REMEMBERED + 2),
            "the last has its key, too"
        );
        let remembers = |base: &BaseCounts, name: &str| base.folded.contains_key(name);
        assert!(remembers(&base, "i-99") && remembers(&base, "i-0") && !remembers(&base, "i-34"));
        base.fold("late", &counts(1, 0), frozen, t(8 * 24 * 3600));
        assert!(base.folded.len() == 2 && remembers(&base, "i-0"), "{:?}", base.folded);
        // The dispatcher was frozen, and goes on counting under its key.
        assert_eq!(sum(&base, &[("i-0", &counts(3, 0))]).0, 101 + 2);
    }

    /// A step of two operators, which may crash, or of a dispatcher that was wrongly taken for dead, on one key and the
    /// base.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Count(u8),
        ReadBase(usize),
        ReadKey(usize),
        Fold(usize),
        Remove(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1..5u8).prop_map(Step::Count),
            (0..2usize).prop_map(Step::ReadBase),
            (0..2usize).prop_map(Step::ReadKey),
            (0..2usize).prop_map(Step::Fold),
            (0..2usize).prop_map(Step::Remove),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn whatever_interferes_each_delivery_counts_once(steps in steps()) {
            let (mut base, mut base_revision) = (BaseCounts::default(), 0u64);
            let (mut key, mut key_revision, mut total) = (None::<DeliveryCounts>, 0u64, 0u64);
            let mut read_base = [(BaseCounts::default(), 0u64), (BaseCounts::default(), 0u64)];
            let mut read_key = [(None::<DeliveryCounts>, 0u64), (None, 0)];
            // Only an operator that has seen its own fold stored removes the key.
            let mut folded = [false; 2];
            for step in steps {
                match step {
                    Step::Count(n) => {
                        total += u64::from(n);
                        key = Some(counts(total, 0));
                        key_revision += 1;
                    }
                    Step::ReadBase(who) => read_base[who] = (base.clone(), base_revision),
                    Step::ReadKey(who) => {
                        read_key[who] = (key.clone(), key_revision);
                        folded[who] = false;
                    }
                    Step::Fold(who) => {
                        let (mut new, revision) = read_base[who].clone();
                        let Some(counts) = &read_key[who].0 else { continue };
                        if !new.fold("i", counts, none_there, t(0)) {
                            folded[who] = true;
                        } else if revision == base_revision {
                            base = new;
                            base_revision += 1;
                            folded[who] = true;
                        }
                    }
                    Step::Remove(who) => {
                        if folded[who] && read_key[who].1 == key_revision {
                            key = None;
                            key_revision += 1;
                        }
                    }
                }
                let keys: Vec<(&str, &DeliveryCounts)> = key.iter().map(|key| ("i", key)).collect();
                prop_assert_eq!(sum(&base, &keys).0, total);
            }
        }
    }
}
