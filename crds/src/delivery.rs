//! The delivery policy of Subscriptions.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::plain_enum;
use crate::{Duration, DurationOrZero, Retry};

/// How events are delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Delivery {
    /// How long one attempt may take, from looking up the host to the end of the response: 1s to 30s. An attempt
    /// without an answer by then has failed and is retried. If only the body of the answer takes longer, the HTTP
    /// status counts. Default: 15s. An edit applies to attempts started after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = (
        "duration(self) >= duration('1s') && duration(self) <= duration('30s')",
        "must be from 1s to 30s"
    ))]
    pub timeout: Option<Duration>,
    /// When failed attempts are repeated, and when delivery is given up. Default: ten attempts in about three days,
    /// with waits of 5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h and 24h between them, each up to 20% shorter or longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What becomes of an event whose delivery is given up. Default: policy Keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// For how long attempts may fail, from the first failure since a success on, before the Subscription is Inactive
    /// (reason Disabled): 0s (for any time) or 1m to 8760h. Silence never disables. What matches meanwhile waits in the
    /// stream. Any edit of the spec, or a new value of the annotation `hookwright.dev/resume`, ends it. Default: 120h. An
    /// edit applies at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = (
        "duration(self) == duration('0s') || duration(self) >= duration('1m') && duration(self) <= duration('8760h')",
        "must be 0s, or from 1m to 8760h"
    ))]
    pub disable_after: Option<DurationOrZero>,
    /// What becomes of the events that came while the Subscription was suspended or Inactive, once it is neither:
    /// CatchUp (they are delivered, the oldest first, as far as the stream still has them) or SkipToNow (those that
    /// still wait in the stream are left out and counted in `status.delivery.skipped`; retries that are due are still
    /// made). Default: CatchUp. The value counts at the edit that resumes delivery; an edit later changes nothing about
    /// events that were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_resume: Option<OnResume>,
}

/// What becomes of the events that came while nothing was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum OnResume {
    /// The events are delivered.
    #[default]
    CatchUp,
    /// The events are left out.
    SkipToNow,
}

/// What becomes of an event whose delivery is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DeadLetter {
    /// What becomes of an event once delivery is given up: Keep (it is stored with the reason and its last attempts) or
    /// Discard (it is counted and dropped). Default if deadLetter is absent: Keep. An edit applies to events given up
    /// after it.
    pub policy: DeadLetterPolicy,
}

/// What becomes of an event whose delivery is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum DeadLetterPolicy {
    /// The event is stored as a dead letter.
    #[default]
    Keep,
    /// The event is counted and dropped.
    Discard,
}
