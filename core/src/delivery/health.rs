//! Delivery health: the counts of each dispatcher, and the health that follows from all counts together.
//!
//! # Theory of operation
//!
//! Each dispatcher has a key for each Subscription, under which it writes what it has counted since its start
//! ([`DeliveryCounts`]). The total is the sum over all keys, so every reader gets the same total. The keys of
//! dispatchers that have gone are folded into [`BaseCounts`]. The base remembers how much it has taken from which key.
//! If such a key is still there or comes back, only the rest of it counts. So no step of folding changes the sum, and
//! repeating or abandoning a step does no harm ([`base`]).

pub mod base;
pub mod correction;
pub mod filtered;
pub mod summary;
pub mod verdict;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::delivery::outcome::OutcomeKind;

pub use base::{BaseCounts, Folded};
pub use filtered::{FilterCounts, FilterFailure};
pub use summary::Summary;
pub use verdict::{Signs, Verdict};

/// How many of the last dead letters the counts remember.
pub const RECENT: usize = 10;

/// The counts of one dispatcher for one Subscription since the dispatcher started. The counts are cumulative, so the
/// sum over all dispatchers is the total for the Subscription. They are approximate across a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryCounts {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The counts that add up over dispatchers.
    #[serde(flatten)]
    pub tally: Tally,
    /// The newest attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<LastAttempt>,
    /// When the next parked delivery is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// The parked delivery with the oldest event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<Pending>,
    /// When a delivery last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// When an attempt last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// When data was last withheld whole by a policy of the Producer, because it isn't JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_withheld: Option<Timestamp>,
    /// The failures since the last success, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// The last [`RECENT`] dead letters, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<GivenUp>,
    /// What the Subscription's filters did with events, if it has filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<FilterCounts>,
}

/// Counts that add up over dispatchers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Deliveries that the endpoint accepted with a 2xx.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Deliveries that this dispatcher parked, less those that it took up again. Negative if it took up deliveries that
    /// others had parked.
    pub retrying: i64,
    /// The bytes of the events of these deliveries, headers and body, counted in the same way.
    #[serde(default)]
    pub retrying_bytes: i64,
    /// How many of these deliveries had no attempt, counted in the same way.
    #[serde(default)]
    pub unattempted: i64,
    /// Deliveries that were given up.
    pub dead_lettered: u64,
    /// Deliveries that a policy of the Producer forbade.
    #[serde(default)]
    pub forbidden: u64,
}

impl Tally {
    /// Adds the counts of another tally.
    pub const fn add(&mut self, other: Self) {
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.failed_attempts = self.failed_attempts.saturating_add(other.failed_attempts);
        self.wait(other.waiting());
        self.dead_lettered = self.dead_lettered.saturating_add(other.dead_lettered);
        self.forbidden = self.forbidden.saturating_add(other.forbidden);
    }

    /// The deliveries that wait, by this tally.
    #[must_use]
    pub const fn waiting(self) -> Waiting {
        Waiting { deliveries: self.retrying, bytes: self.retrying_bytes, unattempted: self.unattempted }
    }

    /// Counts `more` deliveries as waiting; a negative number counts less.
    pub const fn wait(&mut self, more: Waiting) {
        self.retrying = self.retrying.saturating_add(more.deliveries);
        self.retrying_bytes = self.retrying_bytes.saturating_add(more.bytes);
        self.unattempted = self.unattempted.saturating_add(more.unattempted);
    }

    /// The difference to an earlier tally of the same dispatcher.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            delivered: self.delivered.saturating_sub(earlier.delivered),
            failed_attempts: self.failed_attempts.saturating_sub(earlier.failed_attempts),
            retrying: self.retrying.saturating_sub(earlier.retrying),
            retrying_bytes: self.retrying_bytes.saturating_sub(earlier.retrying_bytes),
            unattempted: self.unattempted.saturating_sub(earlier.unattempted),
            dead_lettered: self.dead_lettered.saturating_sub(earlier.dead_lettered),
            forbidden: self.forbidden.saturating_sub(earlier.forbidden),
        }
    }
}

/// An amount of waiting deliveries. The share of one dispatcher is negative if it took up deliveries that others
/// parked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The number of deliveries.
    pub deliveries: i64,
    /// The bytes of the deliveries' events, headers and body.
    pub bytes: i64,
    /// How many of the deliveries had no attempt.
    pub unattempted: i64,
}

impl Waiting {
    /// The sum of two amounts.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            deliveries: self.deliveries.saturating_add(other.deliveries),
            bytes: self.bytes.saturating_add(other.bytes),
            unattempted: self.unattempted.saturating_add(other.unattempted),
        }
    }

    /// The amount with its sign reversed.
    #[must_use]
    pub const fn negated(self) -> Self {
        Self {
            deliveries: self.deliveries.saturating_neg(),
            bytes: self.bytes.saturating_neg(),
            unattempted: self.unattempted.saturating_neg(),
        }
    }
}

/// The newest attempt of a dispatcher for a Subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastAttempt {
    /// When the attempt started.
    pub time: Timestamp,
    /// How the attempt ended.
    pub outcome: OutcomeKind,
    /// The HTTP status, if there was a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// How long the attempt took, in milliseconds.
    pub duration_millis: u64,
    /// The number of the attempt within its delivery, from 1.
    pub attempt: u32,
}

/// A row of failed attempts without a success between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failing {
    /// The number of failures.
    pub count: u64,
    /// The time of the first failure.
    pub first: Timestamp,
    /// The time of the last failure.
    pub last: Timestamp,
}

/// A parked delivery that waits for its next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pending {
    /// When the delivery's event was published.
    pub since: Timestamp,
    /// When the delivery is due. From then on a dispatcher has it in hand, and it doesn't count as waiting.
    pub due: Timestamp,
}

/// A delivery that was given up, for the recent activity in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GivenUp {
    /// When the delivery was given up.
    pub time: Timestamp,
    /// How its last attempt ended; `None` if there was no attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeKind>,
    /// The HTTP status, if there was a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The number of attempts that were made.
    pub attempts: u32,
}

impl DeliveryCounts {
    /// Counts an attempt. Returns whether the attempt may change the health of the endpoint: it ends a row of failures,
    /// or it is one of the first failures in a row.
    pub fn attempt(&mut self, attempt: LastAttempt) -> bool {
        let time = attempt.time;
        let turned = if attempt.outcome == OutcomeKind::Delivered {
            self.tally.delivered += 1;
            self.last_success = self.last_success.max(Some(time));
            self.failing.take().is_some()
        } else {
            self.tally.failed_attempts += 1;
            self.last_failure = self.last_failure.max(Some(time));
            let row = self.failing.get_or_insert(Failing { count: 0, first: time, last: time });
            row.count += 1;
            row.last = row.last.max(time);
            row.count <= verdict::UNHEALTHY_FAILURES
        };
        if self.last_attempt.as_ref().is_none_or(|last| last.time <= time) {
            self.last_attempt = Some(attempt);
        }
        turned
    }

    /// Whether a failure at `time` turns the health, by these counts alone: there was none before, or the endpoint was
    /// healthy again. The cause of such a failure is worth a line in the log, and those of the failures after it are not.
    #[must_use]
    pub fn turns_at(&self, time: Timestamp) -> bool {
        self.last_failure.is_none_or(|failed| {
            self.last_success > Some(failed) && time.duration_since(failed) >= verdict::HEALTHY_AFTER
        })
    }

    /// Counts a delivery that was given up.
    pub fn gave_up(&mut self, given_up: GivenUp) {
        self.tally.dead_lettered += 1;
        remember(&mut self.recent, [given_up]);
    }
}

/// Adds dead letters to a list and keeps the newest [`RECENT`] of them, oldest first.
pub(crate) fn remember(recent: &mut Vec<GivenUp>, more: impl IntoIterator<Item = GivenUp>) {
    recent.extend(more);
    recent.sort_by_key(|given_up| given_up.time);
    recent.drain(..recent.len().saturating_sub(RECENT));
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn t(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    pub(crate) fn attempt(seconds: i64, outcome: OutcomeKind) -> LastAttempt {
        LastAttempt { time: t(seconds), outcome, http_status: None, duration_millis: 1, attempt: 1 }
    }

    pub(crate) fn given_up(seconds: i64) -> GivenUp {
        GivenUp { time: t(seconds), outcome: None, http_status: None, attempts: 0 }
    }

    #[test]
    fn an_attempt_is_told_at_once_while_it_may_change_the_verdict() {
        let mut counts = DeliveryCounts::default();
        let mut turned = |seconds, outcome| counts.attempt(attempt(seconds, outcome));
        assert!(!turned(0, OutcomeKind::Delivered));
        assert!(!turned(1, OutcomeKind::Delivered));
        assert!(turned(2, OutcomeKind::Rejected));
        assert!(turned(2, OutcomeKind::TimedOut));
        assert!(turned(3, OutcomeKind::TimedOut), "the third: the endpoint is unhealthy now");
        assert!(!turned(23, OutcomeKind::TimedOut), "it has long been");
        assert!(turned(24, OutcomeKind::Delivered));
        assert_eq!((counts.tally.delivered, counts.tally.failed_attempts), (3, 4));
    }

    #[test]
    fn a_cause_is_told_once_for_each_turn() {
        let mut counts = DeliveryCounts::default();
        let told = [
            (0, OutcomeKind::Rejected, true),
            (1, OutcomeKind::TimedOut, false),
            (99, OutcomeKind::NoRoute, false),
            (100, OutcomeKind::Delivered, false),
            // It is healthy 30 s after the last failure.
            (120, OutcomeKind::NoRoute, false),
            (121, OutcomeKind::Delivered, false),
            (150, OutcomeKind::NoRoute, true),
            (999, OutcomeKind::NoRoute, false),
        ];
        for (second, outcome, tells) in told {
            let attempt = attempt(second, outcome);
            let fails = outcome != OutcomeKind::Delivered;
            assert_eq!(fails && counts.turns_at(attempt.time), tells, "at {second} s");
            counts.attempt(attempt);
        }
    }

    #[test]
    fn the_last_dead_letters_are_remembered() {
        let mut counts = DeliveryCounts::default();
        (0..12).for_each(|n| counts.gave_up(given_up(n)));
        assert_eq!((counts.tally.dead_lettered, counts.recent.len()), (12, RECENT));
        assert_eq!((counts.recent[0].time, counts.recent[9].time), (t(2), t(11)));
    }

    #[test]
    fn counts_read_as_they_were_written() {
        let mut counts = DeliveryCounts { version: 1, ..Default::default() };
        counts.attempt(attempt(0, OutcomeKind::Rejected));
        counts.gave_up(given_up(1));
        let json = crate::codec::encode(&counts).unwrap();
        assert_eq!(crate::codec::decode::<DeliveryCounts>(&json).unwrap(), counts);
    }
}
