//! The waits between attempts, and their conversion from and to the domain's type.

use hookwright_core::delivery::backoff as core;
use hookwright_core::delivery::millis::Millis;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::amounts::{PolicyError, duration, given, positive, text};
use crate::schema::plain_enum;

/// The waits between attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "self.type != 'Exponential' || (has(self.delay) && !has(self.schedule))",
    "type Exponential requires delay and excludes schedule"
))]
#[x_kube(validation = (
    "self.type != 'Fixed' || (has(self.delay) && !has(self.schedule) && !has(self.factor) && !has(self.maxDelay))",
    "type Fixed requires delay and excludes schedule, factor and maxDelay"
))]
#[x_kube(validation = (
    "self.type != 'Linear' || (has(self.delay) && !has(self.schedule) && !has(self.factor))",
    "type Linear requires delay and excludes schedule and factor"
))]
#[x_kube(validation = (
    "self.type != 'Logarithmic' || (has(self.delay) && !has(self.schedule) && !has(self.factor))",
    "type Logarithmic requires delay and excludes schedule and factor"
))]
#[x_kube(validation = (
    "self.type != 'Schedule' || (has(self.schedule) && !has(self.delay) && !has(self.factor) && !has(self.maxDelay))",
    "type Schedule requires schedule and excludes delay, factor and maxDelay"
))]
#[x_kube(validation = (
    "!has(self.delay) || !has(self.maxDelay) || duration(self.delay) <= duration(self.maxDelay)",
    "delay must not be longer than maxDelay"
))]
pub struct Backoff {
    /// How the waits grow: Exponential (delay at first, multiplied by factor after each failed attempt, up to
    /// maxDelay), Linear (delay, 2 delay, 3 delay and so on, up to maxDelay), Logarithmic (delay times 1 + log2 of the
    /// number of failed attempts, up to maxDelay: each doubling of that number adds one delay), Fixed (delay each time)
    /// or Schedule (the entries of schedule, one after the other).
    #[serde(rename = "type")]
    pub type_: BackoffType,
    /// The wait after the first failed attempt, such as `10s`; at most 720h, and less than 1s counts as 1s. Required
    /// with types Exponential, Linear, Logarithmic and Fixed, refused with Schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) <= duration('720h')", "must be at most 720h"))]
    pub delay: Option<Duration>,
    /// The factor from each wait to the next: 2 to 10. Only with type Exponential. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10))]
    pub factor: Option<i32>,
    /// The longest wait, before jitter: not shorter than delay, at most 720h. Only with types Exponential, Linear and
    /// Logarithmic. Default: 24h, or delay if that is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) <= duration('720h')", "must be at most 720h"))]
    pub max_delay: Option<Duration>,
    /// The waits after the first, second, third failed attempt and so on: 1 to 32 durations, each at most 720h, where
    /// less than 1s counts as 1s. The last one repeats while maxAttempts and maxDuration allow. Required with type
    /// Schedule, refused otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = (
        "self.all(d, duration(d) <= duration('720h'))",
        "each entry must be at most 720h"
    ))]
    pub schedule: Option<Vec<Duration>>,
}

/// How the waits between attempts grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum BackoffType {
    /// Each wait is a multiple of the one before.
    Exponential,
    /// Each wait is longer than the one before, always by the same time.
    Linear,
    /// Each wait is longer than the one before, by less and less.
    Logarithmic,
    /// All waits are equal.
    Fixed,
    /// The waits are taken from a list.
    Schedule,
}

/// The wait that applies. So status shows what applies, too.
fn applied(wait: Millis) -> Millis {
    wait.max(Millis::from(core::MIN_DELAY))
}

impl Backoff {
    /// Converts the backoff to the domain's type, with defaults filled in.
    pub(crate) fn to_core(&self) -> Result<core::Backoff, PolicyError> {
        let delay = |kind| {
            let given = given("retry.backoff.delay", self.delay.as_ref())?.map(applied);
            given.ok_or(PolicyError::Missing { field: "delay", kind })
        };
        let max_delay = |delay: Millis| {
            let given = given("retry.backoff.maxDelay", self.max_delay.as_ref())?.map(applied);
            Ok(given.unwrap_or_else(|| core::DEFAULT_MAX_DELAY.max(delay)))
        };
        Ok(match self.type_ {
            BackoffType::Fixed => core::Backoff::Fixed { delay: delay("Fixed")? },
            BackoffType::Exponential => {
                let delay = delay("Exponential")?;
                let factor = self.factor.map(|factor| positive("retry.backoff.factor", factor)).transpose()?;
                let factor = factor.unwrap_or(core::DEFAULT_FACTOR);
                core::Backoff::Exponential { delay, factor, max_delay: max_delay(delay)? }
            }
            BackoffType::Linear => {
                let delay = delay("Linear")?;
                core::Backoff::Linear { delay, max_delay: max_delay(delay)? }
            }
            BackoffType::Logarithmic => {
                let delay = delay("Logarithmic")?;
                core::Backoff::Logarithmic { delay, max_delay: max_delay(delay)? }
            }
            BackoffType::Schedule => {
                let entries = self.schedule.as_deref().unwrap_or_default();
                if entries.is_empty() {
                    return Err(PolicyError::Missing { field: "schedule", kind: "Schedule" });
                }
                let delays = entries.iter().map(|entry| duration("retry.backoff.schedule", entry).map(applied));
                core::Backoff::Schedule { delays: delays.collect::<Result<_, _>>()? }
            }
        })
    }
}

impl From<&core::Backoff> for Backoff {
    /// Converts the backoff to the form of the API, with every field that applies to its type.
    fn from(backoff: &core::Backoff) -> Self {
        let of = |type_| Backoff { type_, delay: None, factor: None, max_delay: None, schedule: None };
        let growing = |type_, delay: &Millis, max_delay: &Millis| Backoff {
            delay: Some(text(*delay)),
            max_delay: Some(text(*max_delay)),
            ..of(type_)
        };
        match backoff {
            core::Backoff::Fixed { delay } => Backoff { delay: Some(text(*delay)), ..of(BackoffType::Fixed) },
            core::Backoff::Exponential { delay, factor, max_delay } => Backoff {
                factor: Some(i32::try_from(*factor).unwrap_or(i32::MAX)),
                ..growing(BackoffType::Exponential, delay, max_delay)
            },
            core::Backoff::Linear { delay, max_delay } => growing(BackoffType::Linear, delay, max_delay),
            core::Backoff::Logarithmic { delay, max_delay } => growing(BackoffType::Logarithmic, delay, max_delay),
            core::Backoff::Schedule { delays } => {
                let schedule = delays.iter().copied().map(text).collect();
                Backoff { schedule: Some(schedule), ..of(BackoffType::Schedule) }
            }
        }
    }
}
