//! The summary of all dispatchers' counts for one Subscription.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::verdict::Signs;
use super::{BaseCounts, DeliveryCounts, Failing, FilterCounts, GivenUp, LastAttempt, Waiting, remember};

/// The summary of all dispatchers' counts for one Subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Deliveries that the endpoint accepted with a 2xx.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Deliveries that failed and wait for their next attempt.
    pub retrying: u64,
    /// Deliveries that wait for their first attempt.
    pub waiting: u64,
    /// Deliveries that were given up.
    pub dead_lettered: u64,
    /// Deliveries that a policy of the Producer forbade.
    pub forbidden: u64,
    /// The newest attempt.
    pub last_attempt: Option<LastAttempt>,
    /// When the next waiting delivery is due.
    pub next_attempt: Option<Timestamp>,
    /// When the event of the oldest waiting delivery was published.
    pub oldest_pending: Option<Timestamp>,
    /// The signs that the health of the endpoint is judged by.
    pub signs: Signs,
    /// When data was last withheld whole by a policy of the Producer.
    pub last_withheld: Option<Timestamp>,
    /// The last dead letters, oldest first.
    pub recent: Vec<GivenUp>,
    /// What the Subscription's filters did with events.
    pub filters: Option<FilterCounts>,
}

impl Summary {
    /// Sums up the base, and the part of each incarnation's counts that the base has not taken over.
    #[must_use]
    pub fn of(base: Option<&BaseCounts>, keys: &HashMap<String, DeliveryCounts>, now: Timestamp) -> Self {
        let all = gathered(base, keys, now);
        let span = |row: &Failing| row.last.duration_since(row.first);
        let parked = u64::try_from(all.tally.retrying).unwrap_or(0);
        let waiting = u64::try_from(all.tally.unattempted).unwrap_or(0).min(parked);
        let waits = parked > 0;
        Self {
            delivered: all.tally.delivered,
            failed_attempts: all.tally.failed_attempts,
            retrying: parked - waiting,
            waiting,
            dead_lettered: all.tally.dead_lettered,
            forbidden: all.tally.forbidden,
            next_attempt: all.next_attempt.filter(|_| waits),
            oldest_pending: all.oldest_pending.map(|pending| pending.since).filter(|_| waits),
            signs: Signs {
                failures: all.failing.as_ref().map_or(0, |row| row.count),
                span: all.failing.as_ref().map_or(SignedDuration::ZERO, span),
                last_success: all.last_success,
                last_failure: all.last_failure,
            },
            last_attempt: all.last_attempt,
            last_withheld: all.last_withheld,
            recent: all.recent,
            filters: all.filters,
        }
    }

    /// The deliveries that dispatchers parked, less those that they took up again. Negative if a dispatcher died before
    /// it had written what it parked.
    #[must_use]
    pub fn waiting(base: Option<&BaseCounts>, keys: &HashMap<String, DeliveryCounts>) -> Waiting {
        gathered(base, keys, Timestamp::MIN).tally.waiting()
    }
}

fn gathered(base: Option<&BaseCounts>, keys: &HashMap<String, DeliveryCounts>, now: Timestamp) -> DeliveryCounts {
    let none = BaseCounts::default();
    let base = base.unwrap_or(&none);
    let rests: Vec<DeliveryCounts> = keys.iter().filter_map(|(name, counts)| base.rest_of(name, counts)).collect();
    gather(std::iter::once(&base.counts).chain(&rests), now)
}

/// Adds up several counts. A delivery that was due before `now` is in a dispatcher's hands and waits no longer.
pub(super) fn gather<'a>(
    counts: impl IntoIterator<Item = &'a DeliveryCounts, IntoIter: Clone>,
    now: Timestamp,
) -> DeliveryCounts {
    let counts = counts.into_iter();
    let mut sum = DeliveryCounts::default();
    for count in counts.clone() {
        sum.tally.add(count.tally);
        let newest = |attempt: &Option<LastAttempt>| attempt.as_ref().map(|a| a.time);
        if newest(&count.last_attempt) > newest(&sum.last_attempt) {
            sum.last_attempt.clone_from(&count.last_attempt);
        }
        sum.next_attempt = earlier(sum.next_attempt, count.next_attempt.filter(|at| *at >= now));
        sum.oldest_pending = earlier(sum.oldest_pending, count.oldest_pending.filter(|pending| pending.due >= now));
        sum.last_success = sum.last_success.max(count.last_success);
        sum.last_failure = sum.last_failure.max(count.last_failure);
        sum.last_withheld = sum.last_withheld.max(count.last_withheld);
        remember(&mut sum.recent, count.recent.iter().cloned());
        count.filters.iter().for_each(|filters| FilterCounts::add(&mut sum.filters, filters));
    }
    let success = sum.last_success.unwrap_or(Timestamp::MIN);
    for row in counts.filter_map(|count| count.failing.as_ref()).filter(|row| row.last > success) {
        // Another dispatcher may have had a success in between: the row begins after it.
        let first = row.first.max(success);
        let whole = sum.failing.get_or_insert(Failing { count: 0, first, last: row.last });
        whole.count = whole.count.saturating_add(row.count);
        whole.first = whole.first.min(first);
        whole.last = whole.last.max(row.last);
    }
    sum
}

fn earlier<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{attempt, t};
    use super::super::verdict::{Verdict, judge};
    use super::super::{Pending, Tally};
    use super::*;
    use crate::delivery::outcome::OutcomeKind;

    fn of(keys: &[&DeliveryCounts], now: i64) -> Summary {
        let keys = keys.iter().enumerate().map(|(n, counts)| (format!("{n}"), (*counts).clone())).collect();
        Summary::of(None, &keys, t(now))
    }

    #[test]
    fn sums_over_dispatchers() {
        let counts = |delivered, retrying, next: Option<i64>, since: Option<i64>| DeliveryCounts {
            tally: Tally { delivered, retrying, ..Tally::default() },
            next_attempt: next.map(t),
            oldest_pending: since.map(|since| Pending { since: t(since), due: t(8) }),
            ..Default::default()
        };
        let (a, b) = (counts(3, 2, Some(9), Some(1)), counts(4, -1, Some(7), Some(2)));
        let sum = of(&[&a, &b], 5);
        assert_eq!((sum.delivered, sum.retrying, sum.next_attempt), (7, 1, Some(t(7))));
        assert_eq!(sum.oldest_pending, Some(t(1)));
        assert_eq!(of(&[&a, &b], 8).next_attempt, Some(t(9)), "what was due is in someone's hands");
        assert_eq!(of(&[&a, &b], 9).oldest_pending, None);
        let c = counts(0, -1, None, None);
        let sum = of(&[&a, &b, &c], 5);
        assert_eq!((sum.retrying, sum.next_attempt, sum.oldest_pending), (0, None, None));
        assert_eq!(of(&[&c], 5).retrying, 0, "shown as none until it is corrected");
        for (parked, unattempted, shown) in
            [(5, 2, (3, 2)), (5, 0, (5, 0)), (5, -1, (5, 0)), (5, 9, (0, 5)), (-1, 2, (0, 0))]
        {
            let tally = Tally { retrying: parked, unattempted, ..Tally::default() };
            let sum = of(&[&DeliveryCounts { tally, ..Default::default() }], 0);
            assert_eq!((sum.retrying, sum.waiting), shown, "{unattempted} of {parked}");
        }
    }

    #[test]
    fn unhealthy_after_a_row_of_failures_on_all_dispatchers_together() {
        let (mut a, mut b) = (DeliveryCounts::default(), DeliveryCounts::default());
        let verdict = |keys: &[&DeliveryCounts], before| judge(before, &of(keys, 0).signs, t(12)).0;
        a.attempt(attempt(0, OutcomeKind::Rejected));
        a.attempt(attempt(4, OutcomeKind::TimedOut));
        assert_eq!(verdict(&[&a, &b], None), Verdict::Unknown, "two failures");
        b.attempt(attempt(11, OutcomeKind::Rejected));
        assert_eq!(verdict(&[&a, &b], None), Verdict::Unhealthy, "three");
        b.attempt(attempt(12, OutcomeKind::Delivered));
        let sum = of(&[&a, &b], 0);
        assert_eq!((sum.signs.failures, sum.signs.last_failure), (0, Some(t(11))), "a success anywhere ends the row");
        assert_eq!(verdict(&[&a, &b], Some(Verdict::Unhealthy)), Verdict::Unhealthy, "not for 30 s yet");
        assert_eq!(sum.last_attempt.unwrap().outcome, OutcomeKind::Delivered);
    }

    #[test]
    fn a_row_begins_after_the_last_success_on_any_dispatcher() {
        let (mut a, mut b) = (DeliveryCounts::default(), DeliveryCounts::default());
        let span = |keys: &[&DeliveryCounts]| of(keys, 0).signs.span.as_secs();
        a.attempt(attempt(10, OutcomeKind::Rejected));
        a.attempt(attempt(90, OutcomeKind::Rejected));
        assert_eq!(span(&[&a, &b]), 80);
        b.attempt(attempt(50, OutcomeKind::Delivered));
        assert_eq!((span(&[&a, &b]), span(&[&b, &a])), (40, 40));
        b.attempt(attempt(60, OutcomeKind::Rejected));
        assert_eq!((span(&[&a, &b]), span(&[&b, &a])), (40, 40), "the row of the other one is the longer");
        b.attempt(attempt(91, OutcomeKind::Delivered));
        assert_eq!(span(&[&a, &b]), 0);
    }
}
