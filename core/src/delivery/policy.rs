//! How a subscription wants its deliveries made: the effective policy, with every default filled in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::backoff::{Backoff, Jitter, MIN_DELAY};
use crate::delivery::millis::Millis;

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

impl RetryPolicy {
    /// The wait after `failed` failed attempts (1 or more), with jitter.
    #[must_use]
    pub fn delay(&self, failed: u32, jitter: Jitter) -> Duration {
        jitter.vary(self.backoff.delay(failed.max(1)).duration().max(MIN_DELAY), self.jitter_percent)
    }
}

/// What becomes of a delivery that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadLetterPolicy {
    /// Kept in `HOOKWRIGHT_DEAD_LETTERS`.
    Keep,
    /// Counted, and dropped.
    Discard,
}

/// Jitter when none is given.
pub const DEFAULT_JITTER_PERCENT: u8 = 20;

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: Some(Backoff::default().max_attempts()),
            max_duration: None,
            backoff: Backoff::default(),
            jitter_percent: DEFAULT_JITTER_PERCENT,
        }
    }
}

impl Default for DeliveryPolicy {
    fn default() -> Self {
        Self { timeout: Millis::seconds(15), retry: RetryPolicy::default(), dead_letter: DeadLetterPolicy::Keep }
    }
}
