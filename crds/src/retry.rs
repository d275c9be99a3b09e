//! The retry policy: when failed attempts are repeated.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Backoff, Duration};

/// When failed attempts are repeated, and when delivery is given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retry {
    /// How many attempts are made at most, the first one included: 1 to 100; 1 means no retry. If maxDuration is given,
    /// too, the limit that is met first ends delivery. Default: no limit if maxDuration is given; otherwise 10, or with
    /// a schedule one more than it has entries. An edit also applies to events that are being retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<i32>,
    /// How long an event is retried, such as `72h`; at most 720h. The time counts from the event's first attempt, or
    /// from when it was first put off without an attempt because its Subscription had too many. A wait that would end
    /// later is cut short for one last attempt then. Default: no limit; maxAttempts ends delivery. An edit applies to
    /// events first attempted after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) <= duration('720h')", "must be at most 720h"))]
    pub max_duration: Option<Duration>,
    /// The waits between attempts. Default: type Schedule with 5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h and 24h. An edit
    /// applies from each event's next failed attempt on; a wait that has begun doesn't change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// By how many percent at most each wait is made shorter or longer at random, so that retries don't come all at
    /// once: 0 to 100. Default: 20. An edit applies from each event's next failed attempt on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: Option<i32>,
}
