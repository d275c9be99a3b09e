//! What the filters of a Subscription did with events.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::expression::RunError;
use crate::select::filter::Verdict;

/// What the filters of one generation of a Subscription did with the events that they were evaluated for. Counts of
/// several dispatchers add up. Those of an older generation are about other filters, and are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterCounts {
    /// The generation of the Subscription.
    pub generation: i64,
    /// When counting began.
    pub since: Timestamp,
    /// Events that passed all filters.
    pub matched: u64,
    /// Events that didn't pass a filter, by the number of the first such filter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filtered_out: Vec<u64>,
    /// How many of those didn't pass because the evaluation failed.
    #[serde(default)]
    pub failed: u64,
    /// The last evaluation that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FilterFailure>,
}

/// An evaluation that failed. It says nothing about the event but its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterFailure {
    /// When it failed.
    pub time: Timestamp,
    /// The number of the filter, from 0.
    pub entry: usize,
    /// The kind of the error.
    pub error: String,
    /// The CloudEvents id of the event.
    pub event: String,
}

/// How much of an event's id is kept.
const ID: usize = 128;

impl FilterCounts {
    /// Counts an event. Returns whether it is the first whose evaluation failed.
    pub fn count(&mut self, generation: i64, now: Timestamp, verdict: Verdict, id: impl FnOnce() -> String) -> bool {
        if !self.is_of(generation, now) {
            return false;
        }
        let Verdict::FilteredOut { entry, error } = verdict else {
            self.matched += 1;
            return false;
        };
        self.filter_out(entry, 1);
        let Some(error) = error else { return false };
        self.failed += 1;
        self.last_failure = Some(FilterFailure::new(now, entry, error, &id()));
        self.failed == 1
    }

    /// Counts events that were passed over because they lack what the filter with this number wants.
    pub fn pass_over(&mut self, generation: i64, now: Timestamp, entry: usize, events: u64) {
        if self.is_of(generation, now) {
            self.filter_out(entry, events);
        }
    }

    /// Begins anew with each generation. Returns false for the last events of before an edit.
    fn is_of(&mut self, generation: i64, now: Timestamp) -> bool {
        if generation > self.generation {
            *self = Self { generation, since: now, ..Self::default() };
        }
        generation == self.generation
    }

    fn filter_out(&mut self, entry: usize, events: u64) {
        if self.filtered_out.len() <= entry {
            self.filtered_out.resize(entry + 1, 0);
        }
        self.filtered_out[entry] = self.filtered_out[entry].saturating_add(events);
    }

    /// The part that came after these earlier counts of the same dispatcher; `None` if nothing did.
    #[must_use]
    pub fn since(&self, earlier: Option<&Self>) -> Option<Self> {
        let Some(earlier) = earlier.filter(|earlier| earlier.generation == self.generation) else {
            return Some(self.clone());
        };
        if self == earlier {
            return None;
        }
        let before = |entry: usize| earlier.filtered_out.get(entry).copied().unwrap_or(0);
        let filtered_out = self.filtered_out.iter().enumerate();
        Some(Self {
            matched: self.matched.saturating_sub(earlier.matched),
            filtered_out: filtered_out.map(|(entry, count)| count.saturating_sub(before(entry))).collect(),
            failed: self.failed.saturating_sub(earlier.failed),
            ..self.clone()
        })
    }

    /// Adds the counts of another dispatcher.
    pub(super) fn add(sum: &mut Option<Self>, other: &Self) {
        let Some(sum) = sum.as_mut().filter(|sum| sum.generation >= other.generation) else {
            *sum = Some(other.clone());
            return;
        };
        if sum.generation > other.generation {
            return;
        }
        sum.since = sum.since.min(other.since);
        sum.matched = sum.matched.saturating_add(other.matched);
        sum.failed = sum.failed.saturating_add(other.failed);
        if sum.filtered_out.len() < other.filtered_out.len() {
            sum.filtered_out.resize(other.filtered_out.len(), 0);
        }
        for (count, more) in sum.filtered_out.iter_mut().zip(&other.filtered_out) {
            *count = count.saturating_add(*more);
        }
        let time = |failure: &Option<FilterFailure>| failure.as_ref().map(|failure| failure.time);
        if time(&other.last_failure) > time(&sum.last_failure) {
            sum.last_failure.clone_from(&other.last_failure);
        }
    }
}

impl FilterFailure {
    fn new(time: Timestamp, entry: usize, error: RunError, id: &str) -> Self {
        Self { time, entry, error: error.to_string(), event: id.chars().take(ID).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::t;
    use super::*;

    const OUT: Verdict = Verdict::FilteredOut { entry: 1, error: None };
    const FAILED: Verdict = Verdict::FilteredOut { entry: 0, error: Some(RunError::NoSuchKey) };

    fn counts(generation: i64, verdicts: &[Verdict]) -> FilterCounts {
        let mut counts = FilterCounts::default();
        for (n, verdict) in verdicts.iter().enumerate() {
            counts.count(generation, t(i64::try_from(n).unwrap()), *verdict, || format!("event {n}"));
        }
        counts
    }

    #[test]
    fn counts_add_up_within_a_generation() {
        let (old, a, b) =
            (counts(1, &[OUT; 9]), counts(2, &[Verdict::Matches, OUT, FAILED]), counts(2, &[FAILED, OUT]));
        for order in [[&old, &a, &b], [&b, &old, &a], [&a, &b, &old]] {
            let mut sum = None;
            order.iter().for_each(|counts| FilterCounts::add(&mut sum, counts));
            let sum = sum.unwrap();
            assert_eq!((sum.generation, sum.matched, sum.failed), (2, 1, 2));
            assert_eq!((&sum.filtered_out[..], sum.last_failure.unwrap().event.as_str()), (&[2, 2][..], "event 2"));
        }
    }

    #[test]
    fn what_was_taken_does_not_count_again() {
        let (early, late) = (counts(2, &[OUT, FAILED]), counts(2, &[OUT, FAILED, OUT, Verdict::Matches]));
        let mut sum = Some(early.clone());
        FilterCounts::add(&mut sum, &late.since(Some(&early)).unwrap());
        assert_eq!(sum, Some(late.clone()));
        assert_eq!(late.since(Some(&late)), None);
        assert_eq!(late.since(Some(&counts(1, &[OUT]))), Some(late.clone()), "other filters");
    }

    #[test]
    fn an_edit_begins_anew_and_only_the_first_failure_is_told_at_once() {
        let mut counts = counts(1, &[OUT, OUT]);
        assert!(counts.count(2, t(9), FAILED, || "x".repeat(999)));
        assert!(!counts.count(2, t(10), FAILED, String::new));
        assert_eq!((counts.since, &counts.filtered_out[..]), (t(9), &[2][..]));
        counts.pass_over(1, t(11), 0, 7);
        counts.pass_over(2, t(11), 1, 7);
        assert_eq!((counts.matched, counts.failed, &counts.filtered_out[..]), (0, 2, &[2, 7][..]));
    }
}
