//! Whether an endpoint is healthy, with hysteresis: it doesn't flap with each attempt.

use jiff::{SignedDuration, Timestamp};

/// An endpoint is unhealthy after this many failures in a row ...
pub const UNHEALTHY_FAILURES: u64 = 3;
/// ... that lie at least this far apart.
pub const UNHEALTHY_SPAN: SignedDuration = SignedDuration::from_secs(10);
/// An unhealthy endpoint is healthy again when it has accepted a delivery and this long has passed without a failure.
pub const HEALTHY_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// What all dispatchers together saw of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    /// The failures since the last success.
    pub failures: u64,
    /// From the first of them to the last.
    pub span: SignedDuration,
    /// The last success.
    pub last_success: Option<Timestamp>,
    /// The last failure, also one before the last success.
    pub last_failure: Option<Timestamp>,
}

/// What an endpoint is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It answers.
    Healthy,
    /// It keeps failing.
    Unhealthy,
}

/// What the endpoint is held for now, and when to look again should nothing happen until then.
#[must_use]
pub fn judge(before: Option<Verdict>, signs: &Signs, now: Timestamp) -> (Verdict, Option<Timestamp>) {
    if signs.failures >= UNHEALTHY_FAILURES && signs.span >= UNHEALTHY_SPAN {
        return (Verdict::Unhealthy, None);
    }
    if before != Some(Verdict::Unhealthy) {
        return (Verdict::Healthy, None);
    }
    match (signs.last_failure, signs.last_success) {
        (failed, Some(succeeded)) if failed.is_none_or(|failed| failed < succeeded) => {
            let healthy = failed.map(|failed| failed.checked_add(HEALTHY_AFTER).unwrap_or(Timestamp::MAX));
            match healthy {
                Some(at) if at > now => (Verdict::Unhealthy, Some(at)),
                _ => (Verdict::Healthy, None),
            }
        }
        // Nothing was accepted since: silence is no recovery.
        _ => (Verdict::Unhealthy, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::t;
    use super::*;

    #[test]
    fn verdict_table() {
        use Verdict::{Healthy, Unhealthy};
        let signs = |failures, span, success: Option<i64>, failure: Option<i64>| Signs {
            failures,
            span: SignedDuration::from_secs(span),
            last_success: success.map(t),
            last_failure: failure.map(t),
        };
        for (before, signs, now, want, again) in [
            (None, signs(0, 0, Some(0), None), 0, Healthy, None),
            (None, signs(2, 60, None, Some(60)), 60, Healthy, None),
            (None, signs(3, 9, None, Some(9)), 9, Healthy, None),
            (None, signs(3, 10, None, Some(10)), 10, Unhealthy, None),
            (Some(Healthy), signs(1000, 9, Some(0), Some(10)), 10, Healthy, None),
            (Some(Healthy), signs(3, 10, Some(0), Some(10)), 10, Unhealthy, None),
            // A success, and it stays unhealthy until 30 s have passed since the last failure.
            (Some(Unhealthy), signs(0, 0, Some(12), Some(10)), 12, Unhealthy, Some(40)),
            (Some(Unhealthy), signs(0, 0, Some(12), Some(10)), 39, Unhealthy, Some(40)),
            (Some(Unhealthy), signs(0, 0, Some(12), Some(10)), 40, Healthy, None),
            (Some(Unhealthy), signs(0, 0, Some(50), Some(10)), 50, Healthy, None),
            // A failure meanwhile, of few: the time starts again, and a success is due.
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
