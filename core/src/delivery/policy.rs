//! How a subscription wants its deliveries made: the effective policy, with every default filled in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The delivery policy of a subscription, as the dispatcher applies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliveryPolicy {
    /// How long one attempt may take, from the connection to the end of the response.
    pub timeout: Millis,
    /// When a failed attempt is repeated.
    pub retry: RetryPolicy,
    /// What becomes of a delivery that is given up.
    pub dead_letter: DeadLetterPolicy,
}

/// When a failed attempt is repeated, and when no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included; none: until `max_duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// From the first attempt on; none: until `max_attempts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Millis>,
    /// The wait after each failed attempt.
    pub backoff: Backoff,
    /// The wait is varied uniformly by up to this many per cent, both ways. 0 to 100.
    pub jitter_percent: u8,
}

/// The wait after the n-th failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type", deny_unknown_fields)]
pub enum Backoff {
    /// Always `delay`.
    Fixed {
        /// The wait.
        delay: Millis,
    },
    /// `delay * factor^(n-1)`, at most `maxDelay`.
    #[serde(rename_all = "camelCase")]
    Exponential {
        /// The first wait.
        delay: Millis,
        /// 2 to 10.
        factor: u32,
        /// The longest wait, before jitter.
        max_delay: Millis,
    },
    /// `delay * n`, at most `maxDelay`.
    #[serde(rename_all = "camelCase")]
    Linear {
        /// The first wait.
        delay: Millis,
        /// The longest wait, before jitter.
        max_delay: Millis,
    },
    /// `delay * (1 + log2 n)`, at most `maxDelay`.
    #[serde(rename_all = "camelCase")]
    Logarithmic {
        /// The first wait.
        delay: Millis,
        /// The longest wait, before jitter.
        max_delay: Millis,
    },
    /// The n-th entry; the last one repeats.
    Schedule {
        /// At least one.
        delays: Vec<Millis>,
    },
}

/// What becomes of a delivery that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadLetterPolicy {
    /// Kept in `HOOKWRIGHT_DEAD_LETTERS`.
    Keep,
    /// Counted, and dropped.
    Discard,
}

/// A span in whole milliseconds, written as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// As a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }
}

impl From<Duration> for Millis {
    /// Rounds down; a span beyond `u64` milliseconds becomes the longest.
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Attempts in all when neither `maxAttempts` nor `maxDuration` is given and the backoff is not a schedule.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 10;
/// Jitter when none is given.
pub const DEFAULT_JITTER_PERCENT: u8 = 20;
/// Factor of an exponential backoff when none is given.
pub const DEFAULT_FACTOR: u32 = 2;
/// Longest wait of a backoff that grows when none is given.
pub const DEFAULT_MAX_DELAY: Millis = Millis::seconds(24 * 3600);

const HOUR: u64 = 3600;
/// The waits that the Standard Webhooks specification suggests after a failed attempt, in seconds.
const STANDARD_SCHEDULE: [u64; 9] = [5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: Some(10),
            max_duration: None,
            backoff: Backoff::Schedule { delays: STANDARD_SCHEDULE.map(Millis::seconds).to_vec() },
            jitter_percent: DEFAULT_JITTER_PERCENT,
        }
    }
}

impl Default for DeliveryPolicy {
    fn default() -> Self {
        Self { timeout: Millis::seconds(15), retry: RetryPolicy::default(), dead_letter: DeadLetterPolicy::Keep }
    }
}
