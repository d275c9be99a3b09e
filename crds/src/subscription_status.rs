//! The status of a Subscription.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::schema::plain_enum;
use crate::{Delivery, EffectivePayload, SecretKeyRef};

/// What the operator last saw of a Subscription.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionStatus {
    /// The `metadata.generation` that this status describes; -1 before the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The state in conditions: Accepted (the spec is valid), ResolvedRefs (the Producer and every Secret were found
    /// and may be used), Programmed (all dispatchers have loaded this generation), Ready (events published now are
    /// delivered), EndpointHealthy (whether the endpoint accepts deliveries), Delivering (whether events are sent now, and
    /// why not), FiltersHealthy (whether evaluations of filters succeed; present only with `spec.filters`), EventsMissed
    /// (the stream dropped events that waited; present only while True), PayloadWithheld (a payload policy of the Producer
    /// has withheld all of an event's data, which wasn't JSON; present only while True), Reconciling (readiness is
    /// pending) and Stalled (it can't be reached without an edit). EndpointHealthy, Delivering, FiltersHealthy,
    /// EventsMissed and PayloadWithheld don't count for Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Option<Vec<Condition>>,
    /// How the endpoint answers: Healthy (attempts succeed), Unhealthy (attempts have been failing; they are retried)
    /// or Inactive (nothing is sent, because the endpoint answered 410 Gone; an edit of the Subscription resumes
    /// delivery). Absent before the first attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Where delivery started because of `spec.startFrom`. Absent with position New.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_from: Option<StartedFrom>,
    /// The host of `spec.endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_host: Option<String>,
    /// The keys that sign webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningStatus>,
    /// The delivery policy that applies: each field from `spec.delivery`, else from the Producer's, else the default. A
    /// limit that is absent from retry doesn't apply. Absent while the Producer is not found or not permitted.
    #[serde(default, deserialize_with = "readable", skip_serializing_if = "Option::is_none")]
    pub effective_delivery: Option<Delivery>,
    /// What applies to the payload of webhooks. Absent while the Producer is not found or not permitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_payload: Option<EffectivePayload>,
    /// Counts and times of deliveries. Counts are approximate across a crash of a dispatcher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryStatus>,
    /// What the filters of this generation did with events. Absent without `spec.filters`, and before the first event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<FiltersStatus>,
    /// The last ten entries of activity, the newest first: each change of the endpoint's health, and each delivery that
    /// was given up. Other attempts leave no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub recent_activity: Option<Vec<Activity>>,
    /// The result of the last test delivery. Each new value of the annotation `hookwright.dev/send-test` asks for one:
    /// a single attempt with an event of the type `hookwright.test`. It is not counted, doesn't change the health and
    /// is not retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_test: Option<LastTest>,
}

/// What the filters of a generation did with events. Events that the index passes over, because an attribute that has to
/// have a certain value has another one, are added now and then, for the filter that wants the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FiltersStatus {
    /// Since when events are counted: the first event after the last edit.
    pub since: Time,
    /// Events that passed all filters.
    pub matched: i64,
    /// Events that didn't pass: the first number counts those that the first of `spec.filters` kept out, the second
    /// number those that the second kept out, and so on.
    #[schemars(length(max = 10))]
    pub filtered_out: Vec<i64>,
    /// How many of the events that didn't pass were kept out because an evaluation failed.
    pub failed: i64,
}

/// How an endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum Health {
    /// Attempts succeed.
    Healthy,
    /// Attempts have been failing.
    Unhealthy,
    /// Nothing is sent, because the endpoint answered 410 Gone.
    Inactive,
}

/// Reads what another release may have written: a policy with a field that this one doesn't know counts as absent.
fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Delivery>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

/// The keys that sign webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningStatus {
    /// The keys in use: the ones of the spec, or the generated one. A receiver can verify a webhook with any of them.
    #[schemars(length(max = 8))]
    pub keys: Vec<SigningKeyStatus>,
    /// How often the generated key was replaced. Absent if it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
}

/// How often the generated signing key was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// The last value of the annotation `hookwright.dev/rotate-signing-key` that was followed.
    pub requested: String,
    /// The number of replacements: the key is in the Secret `<name>-signing-<number>`, or `<name>-signing` if it is 0.
    pub number: i64,
}

/// A key that signs webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyStatus {
    /// The key of a Secret that holds the signing key.
    pub secret_key_ref: SecretKeyRef,
    /// Until when a generated key signs that was replaced. Its Secret is removed then. Absent for a key that wasn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signs_until: Option<Time>,
}

/// Where delivery started because of `spec.startFrom`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartedFrom {
    /// The first sequence of the Producer's stream that is delivered.
    pub sequence: i64,
    /// When the operator looked the sequence up.
    pub time: Time,
    /// Whether `spec.startFrom` names earlier events that the stream no longer had, or that were
    /// published before the namespace was let in. Absent if it doesn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<bool>,
}

/// Counts and times of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// Events that the endpoint accepted with a 2xx answer.
    pub delivered: i64,
    /// Attempts that failed; each retry counts.
    pub failed_attempts: i64,
    /// Events whose delivery failed, and that wait for their next attempt.
    pub retrying: i64,
    /// Events that were put aside without an attempt and wait for their first one, for example because the endpoint takes
    /// them more slowly than they come. Absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<i64>,
    /// Events whose delivery was given up, whether they were kept as dead letters or discarded.
    pub dead_lettered: i64,
    /// Events that filters in `spec.payloadPolicies` of the Producer forbade this Subscription to get. They were dropped.
    /// Absent if there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forbidden: Option<i64>,
    /// How far delivery is behind the Producer's stream. Absent while events are delivered as they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
    /// Events that waited in the stream, and that the stream dropped at its head before they could be delivered: by a limit
    /// of age or size, a purge up to a sequence, or with the whole stream. What goes from its midst is not counted. Absent
    /// if there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    /// Sequences of the stream that were left out because of `spec.delivery.onResume` SkipToNow: at least as many as
    /// there were events of this Subscription among them. Absent if there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<i64>,
    /// When the oldest of the events that wait for an attempt was published. Absent while none waits. If more
    /// than 1,000 wait at one dispatcher, and for a while after a dispatcher crashed, it may be the time of a younger
    /// event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending_time: Option<Time>,
    /// When the next of these events is due. Absent while none waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// The latest attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<LastAttempt>,
}

/// How far delivery is behind the Producer's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Behind {
    /// Since when events wait in the stream. Absent if it isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Why delivery went behind: Suspended (`spec.suspend` was true), Refused (the spec, or something that it refers to,
    /// could not be used), EndpointGone (the endpoint answered 410 Gone),
    /// Disabled (deliveries failed for too long), EndpointFailing (the endpoint failed several times in a row),
    /// RetryAfter (the endpoint asked for a pause), EndpointSlow (events came faster than the endpoint took them),
    /// StartFrom (`spec.startFrom` names earlier events) or FiltersSlow (expensive filters took longer than the events took
    /// to come). It stays until everything that waited is delivered; condition
    /// Delivering says whether it still holds. Absent if it isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<BehindReason>,
    /// The sequence in the stream with which delivery goes on.
    pub from_sequence: i64,
    /// The sequences in the stream that are still to be looked at, and those under way. There are at most as many events
    /// of this Subscription among them.
    pub events: i64,
    /// The sequences in the stream that were passed since delivery went behind: they are delivered or under way, or were
    /// no events of this Subscription. Absent if it isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<i64>,
    /// How many sequences were passed a second, between the last two times that the operator looked. Absent while none
    /// is passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<i64>,
    /// When the oldest event that waits was published. Absent if it isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_event_time: Option<Time>,
}

/// Why delivery is behind the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum BehindReason {
    /// `spec.suspend` was true.
    Suspended,
    /// The spec, or something that it refers to, could not be used.
    Refused,
    /// The endpoint answered 410 Gone.
    EndpointGone,
    /// Deliveries failed for too long.
    Disabled,
    /// The endpoint failed several times in a row.
    EndpointFailing,
    /// The endpoint asked for a pause.
    RetryAfter,
    /// Events came faster than the endpoint took them.
    EndpointSlow,
    /// `spec.startFrom` names earlier events.
    StartFrom,
    /// Expensive filters, of this Subscription or beside it, take longer than the events take to come.
    FiltersSlow,
}

/// Events that the stream dropped while they waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Missed {
    /// The first sequence that was missed.
    pub first_sequence: i64,
    /// The last sequence that was missed.
    pub last_sequence: i64,
    /// How many sequences were missed. There are at most as many events of this Subscription among them.
    pub count: i64,
    /// When the first of these losses was found.
    pub since: Time,
    /// When the last of these losses was found.
    pub time: Time,
}

/// An entry of the recent activity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// When it happened.
    pub time: Time,
    /// What happened: DeadLettered (a delivery was given up), or the endpoint's health became Healthy, Unhealthy or
    /// Inactive.
    pub activity: ActivityKind,
    /// How the attempt that led to the entry ended, in the words of `delivery.lastAttempt.outcome`. Absent if there was
    /// no attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The HTTP status of the answer. Absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// The number of the attempt within its delivery, from 1. Absent if there was no attempt.
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
    /// Nothing is sent any more, because the endpoint answered 410 Gone.
    Inactive,
}

/// One attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastAttempt {
    /// When the attempt ended.
    pub time: Time,
    /// How the attempt ended, in one word: Delivered, or why it failed (Rejected, TimedOut, NameNotFound,
    /// ConnectionRefused, ConnectionReset, NoRoute, AnswerUnreadable, TlsFailed, Unsignable or, of a test,
    /// TransformFailed or Forbidden: by the Producer's `payloadPolicies`).
    pub outcome: String,
    /// The HTTP status of the answer. Absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// How long the attempt took, such as `152ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

/// A test delivery that the annotation `hookwright.dev/send-test` asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastTest {
    /// The value of the annotation that asked for the test; `sha256:` and its digest if the value is longer than 64
    /// bytes or has other characters than printable ASCII.
    #[schemars(length(max = 128))]
    pub value: String,
    /// When the test ended. Absent while it is Pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// How the test ended, in the words of `delivery.lastAttempt.outcome`; or Pending while it can't be sent, for
    /// example because the Subscription is not Ready. A Pending test is sent as soon as it can be.
    pub outcome: String,
    /// The HTTP status of the answer. Absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// How long the test took, such as `152ms`. Absent while it is Pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Why the test is Pending. Absent once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}
