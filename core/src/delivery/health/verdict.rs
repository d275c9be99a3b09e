//! The verdict on the health of an endpoint, with hysteresis so that it doesn't flap with each attempt.

use jiff::{SignedDuration, Timestamp};

/// The number of failures in a row from which on an endpoint is unhealthy.
pub const UNHEALTHY_FAILURES: u64 = 3;
/// How long after its last failure an unhealthy endpoint is healthy again, if it has accepted a delivery since then.
pub const HEALTHY_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// The signs of an endpoint's health, from all dispatchers together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    /// The number of failures since the last success.
    pub failures: u64,
    /// The time from the first of these failures to the last.
    pub span: SignedDuration,
    /// When an attempt last succeeded.
    pub last_success: Option<Timestamp>,
    /// When an attempt last failed, before or after the last success.
    pub last_failure: Option<Timestamp>,
}

/// The verdict on the health of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint accepts deliveries.
    Healthy,
    /// Attempts keep failing.
    Unhealthy,
    /// The endpoint has not accepted a delivery yet, and too few attempts have failed to say more.
    Unknown,
}

/// Judges the health of an endpoint at `now`. Returns the verdict, and when to judge again if nothing happens before.
#[must_use]
pub fn judge(before: Option<Verdict>, signs: &Signs, now: Timestamp) -> (Verdict, Option<Timestamp>) {
    if signs.failures >= UNHEALTHY_FAILURES {
        return (Verdict::Unhealthy, None);
    }
    if before != Some(Verdict::Unhealthy) {
        let is_known = before == Some(Verdict::Healthy) || signs.last_success.is_some();
        return (if is_known { Verdict::Healthy } else { Verdict::Unknown }, None);
    }
    match (signs.last_failure, signs.last_success) {
        (failed, Some(succeeded)) if failed.is_none_or(|failed| failed < succeeded) => {
            let healthy = failed.map(|failed| failed.checked_add(HEALTHY_AFTER).unwrap_or(Timestamp::MAX));
            match healthy {
                Some(at) if at > now => (Verdict::Unhealthy, Some(at)),
                _ => (Verdict::Healthy, None),
            }
        }
        // No delivery was accepted since: silence is no recovery.
        _ => (Verdict::Unhealthy, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::t;
    use super::*;

    #[test]
    fn verdict_table() {
        use Verdict::{Healthy, Unhealthy, Unknown};
        let signs = |failures, span, success: Option<i64>, failure: Option<i64>| Signs {
            failures,
            span: SignedDuration::from_secs(span),
            last_success: success.map(t),
            last_failure: failure.map(t),
        };
        for (before, signs, now, want, again) in [
            (None, signs(0, 0, Some(0), None), 0, Healthy, None),
            (None, signs(0, 0, None, None), 0, Unknown, None),
            (None, signs(2, 60, None, Some(60)), 60, Unknown, None),
            (None, signs(2, 60, Some(0), Some(60)), 60, Healthy, None),
            (None, signs(3, 0, None, Some(9)), 9, Unhealthy, None),
            (Some(Healthy), signs(2, 60, None, Some(10)), 10, Healthy, None),
            (Some(Healthy), signs(3, 0, Some(0), Some(10)), 10, Unhealthy, None),
            // After a success, the endpoint stays unhealthy until 30 s have passed since the last failure.
            (Some(Unhealthy), signs(0, 0, Some(12), Some(10)), 12, Unhealthy, Some(40)),
            (Some(Unhealthy), signs(0, 0, Some(12), Some(10)), 39, Unhealthy, Some(40)),
            (Some(Unhealthy), signs(0, 0, Some(12), Some(10)), 40, Healthy, None),
            (Some(Unhealthy), signs(0, 0, Some(50), Some(10)), 50, Healthy, None),
            // A failure meanwhile starts the time again, and another success is needed.
            (Some(Unhealthy), signs(1, 0, Some(12), Some(30)), 45, Unhealthy, None),
            (Some(Unhealthy), signs(0, 0, Some(46), Some(30)), 46, Unhealthy, Some(60)),
            // Silence is no recovery.
            (Some(Unhealthy), signs(2, 5, None, Some(5)), 9999, Unhealthy, None),
            (Some(Unhealthy), signs(0, 0, None, None), 9999, Unhealthy, None),
            (Some(Unhealthy), signs(0, 0, Some(1), None), 1, Healthy, None),
        ] {
            assert_eq!(judge(before, &signs, t(now)), (want, again.map(t)), "{before:?} {signs:?} at {now}");
        }
    }
}
