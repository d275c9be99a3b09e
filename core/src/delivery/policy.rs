//! The delivery policy of a Subscription, with every default filled in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::backoff::{Backoff, Jitter, MIN_DELAY};
use crate::delivery::millis::Millis;

/// The delivery policy of a Subscription, as dispatchers apply it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliveryPolicy {
    /// How long one attempt may take, from looking up the host to the end of the response.
    pub timeout: Millis,
    /// When failed attempts are repeated.
    pub retry: RetryPolicy,
    /// What becomes of deliveries that are given up.
    pub dead_letter: DeadLetterPolicy,
    /// For how long attempts may fail without a success before the Subscription is disabled; zero: for any time.
    #[serde(default = "disable_after")]
    pub disable_after: Millis,
}

/// Five days.
fn disable_after() -> Millis {
    Millis::seconds(5 * 24 * 3600)
}

/// When failed attempts are repeated, and when a delivery is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryPolicy {
    /// The most attempts of a delivery, the first one included. `None`: only `max_duration` ends the attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How long a delivery is retried, from its first attempt on, or from the first time that it was parked without
    /// one. `None`: only `max_attempts` ends the attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Millis>,
    /// The rule for the wait after each failed attempt.
    pub backoff: Backoff,
    /// By how many per cent each wait is at most made longer or shorter at random: 0 to 100.
    pub jitter_percent: u8,
}

impl RetryPolicy {
    /// The wait after `failed` failed attempts (1 or more), with jitter. Before jitter it is at least [`MIN_DELAY`].
    #[must_use]
    pub fn delay(&self, failed: u32, jitter: Jitter) -> Duration {
        jitter.vary(self.backoff.delay(failed.max(1)).duration().max(MIN_DELAY), self.jitter_percent)
    }
}

/// What becomes of a delivery that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadLetterPolicy {
    /// The delivery is kept in the stream `HOOKWRIGHT_DEAD_LETTERS`.
    Keep,
    /// The delivery is counted and dropped.
    Discard,
}

/// The default jitter, in per cent.
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
        let (retry, dead_letter) = (RetryPolicy::default(), DeadLetterPolicy::Keep);
        Self { timeout: Millis::seconds(15), retry, dead_letter, disable_after: disable_after() }
    }
}
