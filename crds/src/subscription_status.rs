//! What the operator reports about a Subscription.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::plain_enum;
use crate::{Delivery, SecretKeyRef};

/// What the operator last saw of a Subscription.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionStatus {
    /// The `metadata.generation` that this status describes; -1 before the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted (the spec is valid), ResolvedRefs (the Producer and every Secret were found and may be used),
    /// Programmed (all dispatchers have loaded this generation), Ready (events published now are delivered);
    /// EndpointHealthy (how the endpoint answers; not part of Ready); Reconciling and Stalled while readiness is
    /// pending or cannot be reached without an edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Option<Vec<Condition>>,
    /// How the endpoint answers: Healthy, Unhealthy (attempts have been failing; they are retried) or Inactive (nothing
    /// is sent, because the endpoint answered 410 Gone; an edit of the Subscription resumes). Absent before the first
    /// attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The host of `spec.endpoint.url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_host: Option<String>,
    /// The keys in use for signing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningStatus>,
    /// How events are delivered: `spec.delivery`, then the Producer's, then the defaults, each field filled in. A limit
    /// that is absent from retry doesn't apply. Absent while the Producer is not found or not permitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_delivery: Option<Delivery>,
    /// Counts and times of deliveries. Counts are approximate across a crash of a dispatcher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryStatus>,
    /// The last ten events in the life of the endpoint, the newest first: when its health turned, and what was given up.
    /// Attempts that change neither leave no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub recent_activity: Option<Vec<Activity>>,
    /// What came of the last test delivery. Each new value of the annotation `hookwright.dev/send-test` asks for one: a
    /// single attempt with an event of the type `hookwright.test`, which no count, no health and no retry knows of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_test: Option<LastTest>,
}

/// How an endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum Health {
    /// Attempts succeed.
    Healthy,
    /// Attempts have been failing.
    Unhealthy,
    /// Nothing is sent.
    Inactive,
}

/// The keys in use for signing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningStatus {
    /// The keys in use: those of the spec, or the generated one. A receiver verifies with any of them.
    #[schemars(length(max = 3))]
    pub keys: Vec<SigningKeyStatus>,
}

/// A key in use for signing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyStatus {
    /// The Secret that holds the key.
    pub secret_ref: SecretKeyRef,
}

/// Counts and times of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// Events that the endpoint accepted with a 2xx answer.
    pub delivered: i64,
    /// Attempts that failed, each retry counted.
    pub failed_attempts: i64,
    /// Events that wait for their next attempt now.
    pub retrying: i64,
    /// Events whose delivery was given up, kept as dead letters or discarded.
    pub dead_lettered: i64,
    /// When the oldest of the events that wait for their next attempt was published. Absent while none waits; with more
    /// than 1,000 waiting at one dispatcher, and for a while after the crash of one, it may be a younger one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending_time: Option<Time>,
    /// When the next of the retried events is due. Absent while none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// The latest attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<LastAttempt>,
}

/// An entry of the recent activity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// When.
    pub time: Time,
    /// What: DeadLettered (a delivery was given up), or what the endpoint's health became (Healthy, Unhealthy,
    /// Inactive).
    pub activity: ActivityKind,
    /// How the attempt ended that led to it, in the words of `delivery.lastAttempt.outcome`. Absent where there was no
    /// attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The HTTP status of the answer. Absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// Which attempt of its delivery it was, from 1. Absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
}

/// What an entry of the recent activity is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum ActivityKind {
    /// A delivery was given up.
    DeadLettered,
    /// The endpoint is healthy, for the first time or again.
    Healthy,
    /// The endpoint keeps failing.
    Unhealthy,
    /// Nothing is sent any more.
    Inactive,
}

/// One attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastAttempt {
    /// When it ended.
    pub time: Time,
    /// How it ended, in one word: Delivered, or why it failed (such as Rejected, TimedOut, Unreachable, Blocked).
    pub outcome: String,
    /// The HTTP status of the answer. Absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// How long it took, such as `152ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

/// A test delivery that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastTest {
    /// The value of the annotation that asked for it; `sha256:` and its digest if it is longer than 64 bytes or has
    /// other characters than printable ASCII.
    #[schemars(length(max = 128))]
    pub value: String,
    /// When it ended. Absent while it is Pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// How it ended, in the words of `delivery.lastAttempt.outcome`; or Pending, as the Subscription is not Ready or
    /// nobody is there to send it: it is sent once that is over.
    pub outcome: String,
    /// The HTTP status of the answer. Absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// How long it took, such as `152ms`. Absent while it is Pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Why it is Pending. Absent for one that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}
