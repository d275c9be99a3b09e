//! When a failed attempt is repeated.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Backoff, Duration};

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
