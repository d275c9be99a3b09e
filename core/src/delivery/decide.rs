//! The decision about what follows an attempt's outcome: one pure function holds all the rules.

use jiff::{SignedDuration, Timestamp};

use crate::delivery::backoff::Jitter;
use crate::delivery::dead_letter::DeadLetterReason;
use crate::delivery::outcome::{Outcome, OutcomeKind};
use crate::delivery::policy::RetryPolicy;
use crate::delivery::progress::Progress;

/// The next step of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The delivery is done.
    Done,
    /// The delivery gets another attempt.
    Retry {
        /// When the attempt is due.
        at: Timestamp,
    },
    /// The delivery is given up.
    DeadLetter {
        /// Why it is given up.
        reason: DeadLetterReason,
    },
    /// The delivery is given up, and the Subscription is disabled until its next edit.
    Disable,
}

/// The attempt that an outcome belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The number of the attempt within its delivery, from 1.
    pub number: u32,
    /// No attempt follows one that ends at or after this time. See [`deadline`].
    pub deadline: Option<Timestamp>,
}

/// The deadline of a delivery whose first attempt started, or that was first parked without an attempt, at `first`;
/// `None` if the policy has no `maxDuration`.
#[must_use]
pub fn deadline(policy: &RetryPolicy, first: Timestamp) -> Option<Timestamp> {
    let span = SignedDuration::try_from(policy.max_duration?.duration()).unwrap_or(SignedDuration::MAX);
    Some(first.checked_add(span).unwrap_or(Timestamp::MAX))
}

/// Decides what follows the outcome of an attempt that ended at `now`.
///
/// The time that the receiver asks for with `Retry-After` replaces the backoff if it is later (Standard Webhooks), as far
/// as [`Outcome::again`] allows. As others may have been asked for the same time, up to a tenth of the wait is added. A
/// time beyond the deadline becomes the deadline: the delivery gets one last attempt then.
#[must_use]
pub fn decide(policy: &RetryPolicy, attempt: Attempt, outcome: Outcome, now: Timestamp, jitter: Jitter) -> Next {
    match outcome.kind {
        // What is forbidden is dropped.
        OutcomeKind::Delivered | OutcomeKind::Forbidden => return Next::Done,
        OutcomeKind::Unsignable => return Next::DeadLetter { reason: DeadLetterReason::Unsignable },
        OutcomeKind::TransformFailed => return Next::DeadLetter { reason: DeadLetterReason::TransformFailed },
        OutcomeKind::Rejected if outcome.http_status == Some(410) => return Next::Disable,
        OutcomeKind::Rejected
        | OutcomeKind::TimedOut
        | OutcomeKind::NameNotFound
        | OutcomeKind::ConnectionRefused
        | OutcomeKind::ConnectionReset
        | OutcomeKind::NoRoute
        | OutcomeKind::AnswerUnreadable
        | OutcomeKind::TlsFailed => {}
    }
    if policy.max_attempts.is_some_and(|max| attempt.number >= max) {
        return Next::DeadLetter { reason: DeadLetterReason::AttemptsExhausted };
    }
    if attempt.deadline.is_some_and(|deadline| now >= deadline) {
        return Next::DeadLetter { reason: DeadLetterReason::DeadlineExceeded };
    }
    let wait = SignedDuration::try_from(policy.delay(attempt.number, jitter)).unwrap_or(SignedDuration::MAX);
    let backoff = now.checked_add(wait).unwrap_or(Timestamp::MAX);
    // A time that has passed asks for nothing.
    let asked = outcome.again(now).filter(|again| *again > now);
    let spread = |again: Timestamp| again.checked_add(jitter.part(again.duration_since(now) / 10)).unwrap_or(again);
    let at = asked.map_or(backoff, |asked| spread(asked).max(backoff));
    Next::Retry { at: attempt.deadline.map_or(at, |deadline| at.min(deadline)) }
}

/// Whether a delivery that can't be attempted at `now` is given up without an attempt. It is if its deadline has passed
/// and it was parked at least [`LAST_CHANCES`] times in a row.
#[must_use]
pub fn is_out_of_chances(progress: &Progress, now: Timestamp) -> bool {
    progress.parks >= LAST_CHANCES && progress.deadline.is_some_and(|deadline| now >= deadline)
}

/// The number of parks in a row after which a delivery beyond its deadline is given up. With the waits of
/// [`crate::delivery::postpone`] they take about an hour.
pub const LAST_CHANCES: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::backoff::Backoff;
    use crate::delivery::millis::Millis;
    use proptest::prelude::*;

    fn policy(max_attempts: Option<u32>, max_duration: Option<u64>) -> RetryPolicy {
        let backoff = Backoff::Fixed { delay: Millis(10_000) };
        RetryPolicy { max_attempts, max_duration: max_duration.map(Millis::seconds), backoff, jitter_percent: 0 }
    }

    fn t(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn outcomes_table() {
        use DeadLetterReason as R;
        let retry = |s| Next::Retry { at: t(s) };
        let dead = |reason| Next::DeadLetter { reason };
        let status = |s, after: Option<i64>| Outcome::response(s, after.map(t));
        let none = Outcome::without_response;
        for (outcome, number, deadline, want) in [
            (status(200, None), 1, None, Next::Done),
            (status(299, None), 9, None, Next::Done),
            (status(410, None), 1, None, Next::Disable),
            (status(301, None), 1, None, retry(10)),
            (status(404, None), 1, None, retry(10)),
            (status(500, Some(60)), 1, None, retry(60)),
            (status(301, Some(4_000_000_000)), 1, None, retry(24 * 3600)),
            (status(503, Some(60)), 1, None, retry(60)),
            (status(429, Some(5)), 1, None, retry(10)),
            (status(429, Some(600)), 1, Some(30), retry(30)),
            (status(429, Some(4_000_000_000)), 1, None, retry(3600)),
            (status(503, Some(-60)), 1, None, retry(10)),
            (none(OutcomeKind::TimedOut), 4, None, retry(10)),
            (none(OutcomeKind::TimedOut), 5, None, dead(R::AttemptsExhausted)),
            (none(OutcomeKind::NameNotFound), 1, None, retry(10)),
            (none(OutcomeKind::ConnectionRefused), 1, Some(4), retry(4)),
            (none(OutcomeKind::ConnectionReset), 1, Some(0), dead(R::DeadlineExceeded)),
            (none(OutcomeKind::NoRoute), 5, None, dead(R::AttemptsExhausted)),
            (none(OutcomeKind::AnswerUnreadable), 1, None, retry(10)),
            (none(OutcomeKind::TlsFailed), 1, Some(-4), dead(R::DeadlineExceeded)),
            (none(OutcomeKind::Unsignable), 1, None, dead(R::Unsignable)),
            (none(OutcomeKind::TransformFailed), 1, None, dead(R::TransformFailed)),
        ] {
            let attempt = Attempt { number, deadline: deadline.map(t) };
            let got = decide(&policy(Some(5), None), attempt, outcome, t(0), Jitter::new(0.0));
            assert_eq!(got, want, "{outcome:?} at attempt {number}, deadline {deadline:?}");
        }
    }

    #[test]
    fn what_was_asked_for_the_same_time_is_spread() {
        let outcome = Outcome::response(429, Some(t(600)));
        let at = |u| decide(&policy(None, None), Attempt { number: 1, deadline: None }, outcome, t(0), Jitter::new(u));
        assert_eq!([0.0, 0.5, 1.0].map(at), [600, 630, 660].map(|s| Next::Retry { at: t(s) }));
    }

    #[test]
    fn a_time_that_has_long_passed_delays_nothing() {
        for asked in [Timestamp::MIN, Timestamp::UNIX_EPOCH, t(-1)] {
            let (attempt, outcome) = (Attempt { number: 1, deadline: None }, Outcome::response(503, Some(asked)));
            let got = decide(&policy(None, None), attempt, outcome, t(0), Jitter::new(1.0));
            assert_eq!(got, Next::Retry { at: t(10) }, "{asked}");
        }
    }

    proptest! {
        /// Whatever the receiver answers, a delivery ends: it is never retried beyond its attempts or its deadline.
        #[test]
        fn a_retry_is_ahead_and_within_the_deadline(
            status in 300..600u16, after in proptest::option::of(-1_000_000..10_000_000_000i64),
            number in 1..20u32, left in -10..10_000i64, u in 0.0..1.0f64,
        ) {
            let p = policy(Some(10), Some(3600));
            let outcome = Outcome::response(status, after.and_then(|s| Timestamp::from_second(s).ok()));
            match decide(&p, Attempt { number, deadline: Some(t(left)) }, outcome, t(0), Jitter::new(u)) {
                Next::Retry { at } => {
                    prop_assert!(at > t(0) && at <= t(left));
                    prop_assert!(number < 10);
                }
                Next::Disable => prop_assert_eq!(status, 410),
                Next::DeadLetter { .. } => prop_assert!(number >= 10 || left <= 0),
                Next::Done => prop_assert!(false, "a failure is never done"),
            }
        }
    }

    #[test]
    fn out_of_chances_table() {
        for (parks, deadline, want) in [
            (LAST_CHANCES, Some(0), true),
            (LAST_CHANCES + 9, Some(-3600), true),
            // There is time left, or a chance is.
            (LAST_CHANCES, Some(1), false),
            (LAST_CHANCES, None, false),
            (LAST_CHANCES - 1, Some(-3600), false),
        ] {
            let progress = Progress { parks, deadline: deadline.map(t), ..Progress::default() };
            assert_eq!(is_out_of_chances(&progress, t(0)), want, "{parks} parks, deadline {deadline:?}");
        }
    }

    #[test]
    fn the_deadline_counts_from_the_first_attempt() {
        assert_eq!(deadline(&policy(None, Some(60)), t(0)), Some(t(60)));
        assert_eq!(deadline(&policy(Some(3), None), t(0)), None);
    }
}
