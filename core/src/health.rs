//! Delivery health: what each dispatcher counts, and what the counts say together.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::outcome::OutcomeKind;

/// What one dispatcher counted for one subscription since it started: cumulative, so that the sum over all dispatchers
/// is absolute and the same whoever computes it. Approximate across a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliveryCounts {
    /// [`crate::record::VERSION`].
    pub version: u32,
    /// Deliveries that ended with a 2xx.
    pub delivered: u64,
    /// Attempts that did not.
    pub failed_attempts: u64,
    /// Deliveries parked for a retry, less those taken up again; negative where another dispatcher parked them.
    pub retrying: i64,
    /// Deliveries given up.
    pub dead_lettered: u64,
    /// The newest attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<LastAttempt>,
    /// When the next of the parked deliveries is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// When a delivery last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// The failures since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
}

/// The newest attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastAttempt {
    /// When it started.
    pub time: Timestamp,
    /// What it came to.
    pub outcome: OutcomeKind,
    /// The HTTP status, if there was a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_millis: u64,
}

/// A row of failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failing {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
}

impl DeliveryCounts {
    /// Counts an attempt. Returns whether the endpoint went from success to failure or back.
    pub fn attempt(&mut self, attempt: LastAttempt) -> bool {
        let time = attempt.time;
        let delivered = attempt.outcome == OutcomeKind::Delivered;
        let turned = match (&mut self.failing, delivered) {
            (failing, true) => {
                self.delivered += 1;
                self.last_success = self.last_success.max(Some(time));
                failing.take().is_some() || self.last_attempt.is_none()
            }
            (Some(failing), false) => {
                failing.count += 1;
                failing.last = failing.last.max(time);
                false
            }
            (failing, false) => {
                *failing = Some(Failing { count: 1, first: time, last: time });
                true
            }
        };
        self.failed_attempts += u64::from(!delivered);
        if self.last_attempt.as_ref().is_none_or(|last| last.time <= time) {
            self.last_attempt = Some(attempt);
        }
        turned
    }
}

/// What all dispatchers counted for one subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Deliveries that ended with a 2xx.
    pub delivered: u64,
    /// Attempts that did not.
    pub failed_attempts: u64,
    /// Deliveries that wait for their next attempt.
    pub retrying: u64,
    /// Deliveries given up.
    pub dead_lettered: u64,
    /// The newest attempt.
    pub last_attempt: Option<LastAttempt>,
    /// When the next of the waiting deliveries is due.
    pub next_attempt: Option<Timestamp>,
    /// Whether the endpoint fails: [`UNHEALTHY_FAILURES`] in a row over [`UNHEALTHY_SPAN`] or more, on all dispatchers
    /// together.
    pub failing: bool,
}

/// An endpoint is unhealthy after this many failures in a row ...
pub const UNHEALTHY_FAILURES: u64 = 3;
/// ... that lie at least this far apart.
pub const UNHEALTHY_SPAN: SignedDuration = SignedDuration::from_secs(10);

impl Summary {
    /// Sums up.
    #[must_use]
    pub fn of<'a>(counts: impl IntoIterator<Item = &'a DeliveryCounts> + Clone) -> Self {
        let mut sum = Self::default();
        let mut retrying = 0i64;
        for count in counts.clone() {
            sum.delivered += count.delivered;
            sum.failed_attempts += count.failed_attempts;
            sum.dead_lettered += count.dead_lettered;
            retrying += count.retrying;
            let newest = |attempt: &Option<LastAttempt>| attempt.as_ref().map(|a| a.time);
            if newest(&count.last_attempt) > newest(&sum.last_attempt) {
                sum.last_attempt.clone_from(&count.last_attempt);
            }
            sum.next_attempt = match (sum.next_attempt, count.next_attempt) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        sum.retrying = u64::try_from(retrying).unwrap_or(0);
        if sum.retrying == 0 {
            sum.next_attempt = None;
        }
        sum.failing = is_failing(counts);
        sum
    }
}

fn is_failing<'a>(counts: impl IntoIterator<Item = &'a DeliveryCounts> + Clone) -> bool {
    let success = counts.clone().into_iter().filter_map(|count| count.last_success).max();
    let rows = counts.into_iter().filter_map(|count| count.failing.as_ref());
    let (mut failures, mut first, mut last) = (0, None::<Timestamp>, None::<Timestamp>);
    for row in rows.filter(|row| success.is_none_or(|success| row.last > success)) {
        failures += row.count;
        first = Some(first.map_or(row.first, |t| t.min(row.first)));
        last = last.max(Some(row.last));
    }
    let span = last.zip(first).map(|(last, first)| last.duration_since(first));
    failures >= UNHEALTHY_FAILURES && span.is_some_and(|span| span >= UNHEALTHY_SPAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn attempt(seconds: i64, outcome: OutcomeKind) -> LastAttempt {
        LastAttempt { time: t(seconds), outcome, http_status: None, duration_millis: 1 }
    }

    #[test]
    fn sums_over_dispatchers() {
        let a = DeliveryCounts { delivered: 3, retrying: 2, next_attempt: Some(t(9)), ..Default::default() };
        let b = DeliveryCounts { delivered: 4, retrying: -1, next_attempt: Some(t(7)), ..Default::default() };
        let sum = Summary::of([&a, &b]);
        assert_eq!((sum.delivered, sum.retrying, sum.next_attempt), (7, 1, Some(t(7))));
        let c = DeliveryCounts { retrying: -1, ..Default::default() };
        assert_eq!(Summary::of([&a, &b, &c]).next_attempt, None);
    }

    #[test]
    fn unhealthy_after_a_row_of_failures_on_all_dispatchers_together() {
        let (mut a, mut b) = (DeliveryCounts::default(), DeliveryCounts::default());
        assert!(a.attempt(attempt(0, OutcomeKind::Rejected)));
        assert!(!a.attempt(attempt(4, OutcomeKind::TimedOut)));
        assert!(!Summary::of([&a, &b]).failing, "two failures");
        assert!(b.attempt(attempt(11, OutcomeKind::Rejected)));
        assert!(Summary::of([&a, &b]).failing, "three over 11 s");
        assert!(b.attempt(attempt(12, OutcomeKind::Delivered)));
        assert!(!Summary::of([&a, &b]).failing, "a success anywhere ends it");
        assert_eq!(Summary::of([&a, &b]).last_attempt.unwrap().outcome, OutcomeKind::Delivered);
    }
}
