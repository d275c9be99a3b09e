//! When a failed attempt is repeated.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::schema::plain_enum;

/// When a failed attempt is repeated, and when delivery is given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How many attempts are made in all, the first one included: 1 to 100; 1 means no retry. With maxDuration,
    /// whichever limit is met first ends delivery. Default: unlimited with maxDuration; without it 10, or with a
    /// schedule one more than it has entries. An edit also applies to events that are being retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<i32>,
    /// How long after its first attempt an event is retried, such as `72h`; at most 720h. A wait that would end later
    /// is cut short for one last attempt then. Default: no limit; maxAttempts ends delivery. An edit applies to events
    /// first attempted after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) <= duration('720h')", "must be at most 720h"))]
    pub max_duration: Option<Duration>,
    /// The waits between attempts. Default: type Schedule with 5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h, 24h. An edit applies
    /// from each event's next failed attempt on; a wait already begun is not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// By how many percent each wait is made shorter or longer at random, so that retries don't come all at once: 0 to
    /// 100. Default: 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: Option<i32>,
}

/// The waits between attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
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
    /// How the waits grow: Exponential (delay, then multiplied by factor after each failed attempt, up to maxDelay),
    /// Linear (delay, 2 delay, 3 delay and so on, up to maxDelay), Logarithmic (delay times 1 + log2 of the number of
    /// failed attempts, so one delay more at each doubling of it, up to maxDelay), Fixed (delay each time) or Schedule
    /// (the entries of schedule, one after the other).
    #[serde(rename = "type")]
    pub type_: BackoffType,
    /// The wait after the first failed attempt, such as `10s`; at most 720h. Required with types Exponential,
    /// Linear, Logarithmic and Fixed, refused with Schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) <= duration('720h')", "must be at most 720h"))]
    pub delay: Option<Duration>,
    /// What each wait is multiplied by to give the next: 2 to 10. Only with type Exponential. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10))]
    pub factor: Option<i32>,
    /// The longest wait, before jitter; not shorter than delay, at most 720h. Only with types Exponential,
    /// Linear and Logarithmic. Default: 24h, or delay where that is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) <= duration('720h')", "must be at most 720h"))]
    pub max_delay: Option<Duration>,
    /// The waits after the first, second, third failed attempt and so on: 1 to 32 durations, each at most 720h. The
    /// last one repeats while maxAttempts and maxDuration allow. Required with type Schedule, refused otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = (
        "self.all(d, duration(d) <= duration('720h'))",
        "each entry must be at most 720h"
    ))]
    pub schedule: Option<Vec<Duration>>,
}

/// How waits between attempts grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum BackoffType {
    /// Each wait is a multiple of the one before.
    Exponential,
    /// Each wait is longer than the one before by the same time.
    Linear,
    /// Each wait is longer than the one before by less and less.
    Logarithmic,
    /// All waits are alike.
    Fixed,
    /// The waits are listed.
    Schedule,
}
