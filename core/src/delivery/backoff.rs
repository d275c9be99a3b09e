//! The backoff: how long a delivery waits before its next attempt.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::delivery::millis::Millis;

/// A random number from 0 to 1, drawn by the caller.
#[derive(Debug, Clone, Copy)]
pub struct Jitter(f64);

impl Jitter {
    /// Wraps a uniform random number from 0 to 1. A number outside is clamped; NaN counts as 0.5.
    #[must_use]
    pub fn new(uniform: f64) -> Self {
        Self(if uniform.is_nan() { 0.5 } else { uniform.clamp(0.0, 1.0) })
    }

    /// A random part of a span of time, from none to all of it.
    #[must_use]
    pub fn part(self, span: SignedDuration) -> SignedDuration {
        span.mul_f64(self.0)
    }

    /// A span of time, made up to `percent` per cent longer or shorter.
    #[must_use]
    pub fn vary(self, span: Duration, percent: u8) -> Duration {
        let share = f64::from(percent.min(100)) / 100.0;
        span.mul_f64(1.0 + share * (2.0 * self.0 - 1.0))
    }
}

/// The shortest wait of any policy, before jitter: each attempt is work for NATS and the endpoint.
pub const MIN_DELAY: Duration = Duration::from_secs(1);

/// The rule for the wait after the n-th failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type", deny_unknown_fields)]
pub enum Backoff {
    /// The wait is always `delay`.
    Fixed {
        /// The wait after each failed attempt.
        delay: Millis,
    },
    /// The wait is `delay * factor^(n-1)`, at most `maxDelay`.
    #[serde(rename_all = "camelCase")]
    Exponential {
        /// The first wait.
        delay: Millis,
        /// The factor from one wait to the next, 2 to 10.
        factor: u32,
        /// The longest wait, before jitter.
        max_delay: Millis,
    },
    /// The wait is `delay * n`, at most `maxDelay`.
    #[serde(rename_all = "camelCase")]
    Linear {
        /// The first wait.
        delay: Millis,
        /// The longest wait, before jitter.
        max_delay: Millis,
    },
    /// The wait is `delay * (1 + log2 n)`, at most `maxDelay`.
    #[serde(rename_all = "camelCase")]
    Logarithmic {
        /// The first wait.
        delay: Millis,
        /// The longest wait, before jitter.
        max_delay: Millis,
    },
    /// The wait is the n-th entry of a list; the last entry repeats.
    Schedule {
        /// The waits, at least one.
        delays: Vec<Millis>,
    },
}

/// The default number of attempts, if neither `maxAttempts` nor `maxDuration` is given and the backoff isn't a
/// schedule.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 10;
/// The default factor of an exponential backoff.
pub const DEFAULT_FACTOR: u32 = 2;
/// The default for the longest wait of a backoff that grows.
pub const DEFAULT_MAX_DELAY: Millis = Millis::seconds(24 * 3600);

const HOUR: u64 = 3600;
/// The waits after failed attempts that the Standard Webhooks specification suggests, in seconds.
const STANDARD_SCHEDULE: [u64; 9] = [5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];

impl Default for Backoff {
    fn default() -> Self {
        Self::Schedule { delays: STANDARD_SCHEDULE.map(Millis::seconds).to_vec() }
    }
}

impl Backoff {
    /// The wait after `failed` failed attempts (1 or more), without jitter.
    #[must_use]
    pub fn delay(&self, failed: u32) -> Millis {
        match self {
            Self::Fixed { delay } => *delay,
            Self::Exponential { delay, factor, max_delay } => {
                let grown = delay.0.saturating_mul(u64::from(*factor).saturating_pow(failed - 1));
                Millis(grown).min(*max_delay)
            }
            Self::Linear { delay, max_delay } => Millis(delay.0.saturating_mul(u64::from(failed))).min(*max_delay),
            Self::Logarithmic { delay, max_delay } => {
                let grown = delay.duration().mul_f64(1.0 + f64::from(failed).log2());
                Millis::from(grown).min(*max_delay)
            }
            Self::Schedule { delays } => {
                let last = delays.len().saturating_sub(1);
                let index = usize::try_from(failed - 1).unwrap_or(usize::MAX).min(last);
                delays.get(index).copied().unwrap_or(Millis(0))
            }
        }
    }

    /// The number of attempts, if neither `maxAttempts` nor `maxDuration` is given. A schedule is gone through once.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        match self {
            Self::Schedule { delays } => u32::try_from(delays.len()).unwrap_or(u32::MAX).saturating_add(1),
            _ => DEFAULT_MAX_ATTEMPTS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::policy::RetryPolicy;
    use proptest::prelude::*;

    fn backoffs() -> impl Strategy<Value = Backoff> {
        let millis = || (1..=100_000_000u64).prop_map(Millis);
        prop_oneof![
            millis().prop_map(|delay| Backoff::Fixed { delay }),
            (millis(), 2..=10u32, millis()).prop_map(|(delay, factor, max_delay)| Backoff::Exponential {
                delay,
                factor,
                max_delay
            }),
            (millis(), millis()).prop_map(|(delay, max_delay)| Backoff::Linear { delay, max_delay }),
            (millis(), millis()).prop_map(|(delay, max_delay)| Backoff::Logarithmic { delay, max_delay }),
            proptest::collection::vec(millis(), 1..=32).prop_map(|delays| Backoff::Schedule { delays }),
        ]
    }

    proptest! {
        #[test]
        fn within_jitter_of_the_nominal(b in backoffs(), failed in 1..200u32, pct in 0..=100u8, u in 0.0..1.0f64) {
            let policy = RetryPolicy { max_attempts: None, max_duration: None, backoff: b, jitter_percent: pct };
            let base = policy.backoff.delay(failed).duration().max(MIN_DELAY).as_secs_f64();
            let got = policy.delay(failed, Jitter::new(u)).as_secs_f64();
            let span = base * f64::from(pct) / 100.0 + 1e-6;
            prop_assert!(got >= base - span && got <= base + span, "{got} not in {base} +- {span}");
        }

        #[test]
        fn exponential_never_shrinks_and_is_capped(d in 1..1_000_000u64, f in 2..=10u32, m in 1..100_000_000u64, n in 1..300u32) {
            let b = Backoff::Exponential { delay: Millis(d), factor: f, max_delay: Millis(m) };
            prop_assert!(b.delay(n) <= b.delay(n + 1));
            prop_assert!(b.delay(n) <= Millis(m));
        }

        #[test]
        fn linear_grows_by_the_delay_and_is_capped(d in 1..1_000_000u64, m in 1..100_000_000u64, n in 1..300u32) {
            let b = Backoff::Linear { delay: Millis(d), max_delay: Millis(m) };
            prop_assert_eq!(b.delay(n), Millis((d * u64::from(n)).min(m)));
        }

        #[test]
        fn logarithmic_never_shrinks_adds_the_delay_at_each_doubling_and_is_capped(d in 1..1_000_000u64, m in 1..100_000_000u64, n in 1..300u32) {
            let b = Backoff::Logarithmic { delay: Millis(d), max_delay: Millis(m) };
            prop_assert!(b.delay(n) <= b.delay(n + 1));
            prop_assert!(b.delay(n) <= Millis(m));
            let uncapped = Backoff::Logarithmic { delay: Millis(d), max_delay: Millis(u64::MAX) };
            let grown = uncapped.delay(2 * n).0 - uncapped.delay(n).0;
            prop_assert!(grown.abs_diff(d) <= 1, "{grown} for {d}");
        }

        #[test]
        fn the_extremes_don_t_overflow(d in 1..=u64::MAX, n in 1..=u32::MAX, u in 0.0..1.0f64) {
            let max_delay = Millis::seconds(24 * 3600);
            for b in [Backoff::Linear { delay: Millis(d), max_delay }, Backoff::Logarithmic { delay: Millis(d), max_delay }] {
                let policy = RetryPolicy { max_attempts: None, max_duration: None, backoff: b, jitter_percent: 100 };
                prop_assert!(policy.delay(n, Jitter::new(u)) <= 2 * max_delay.duration());
            }
        }

        #[test]
        fn a_schedule_gives_its_entries_then_the_last(entries in proptest::collection::vec(1..1_000_000u64, 1..32), n in 1..100u32) {
            let b = Backoff::Schedule { delays: entries.iter().copied().map(Millis).collect() };
            let want = entries[(n as usize - 1).min(entries.len() - 1)];
            prop_assert_eq!(b.delay(n), Millis(want));
        }
    }

    #[test]
    fn exponential_table() {
        let b = Backoff::Exponential { delay: Millis(1000), factor: 3, max_delay: Millis(20_000) };
        let got: Vec<_> = (1..=5).map(|n| b.delay(n).0).collect();
        assert_eq!(got, [1000, 3000, 9000, 20_000, 20_000]);
    }

    #[test]
    fn linear_and_logarithmic_tables() {
        let (delay, max_delay) = (Millis(1000), Millis(4500));
        let waits = |b: Backoff| [1, 2, 3, 4, 5, 8, 16].map(|n| b.delay(n).0);
        assert_eq!(waits(Backoff::Linear { delay, max_delay }), [1000, 2000, 3000, 4000, 4500, 4500, 4500]);
        assert_eq!(waits(Backoff::Logarithmic { delay, max_delay }), [1000, 2000, 2584, 3000, 3321, 4000, 4500]);
    }
}
