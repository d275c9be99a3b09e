//! The kind Producer: a source of events.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::plain_enum;
use crate::{AllowedNamespaces, Delivery, EventType, PayloadPolicy, Stream, patterns};

/// The source of events: the NATS subjects that they are published to, and the stream that keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "hookwright.dev",
    version = "v1alpha1",
    kind = "Producer",
    namespaced,
    status = "ProducerStatus",
    derive = "PartialEq",
    shortname = "hprod",
    category = "hookwright",
    doc = "A Producer is a source of events: NATS subjects, and the JetStream stream that keeps what is published to \
           them. Subscriptions, in the same namespace or in those that it allows, refer to it and receive its events \
           as webhooks.",
    validation = (
        "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
        "a Producer's name has at most 63 characters and no dot: it becomes part of stream and subject names"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether events published now are kept and can be delivered"
    ),
    printcolumn(
        name = "Stream",
        type_ = "string",
        json_path = ".status.stream.name",
        description = "The stream that keeps the events"
    ),
    printcolumn(
        name = "Subscriptions",
        type_ = "integer",
        json_path = ".status.subscriptions",
        description = "How many Subscriptions refer to this Producer"
    ),
    printcolumn(
        name = "Violations",
        type_ = "integer",
        json_path = ".status.violations",
        description = "How many events violated their schema",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Age"),
    printcolumn(
        name = "Messages",
        type_ = "integer",
        json_path = ".status.stream.messages",
        description = "How many events the stream holds",
        priority = "1"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not",
        priority = "1"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "(has(self.stream) && has(self.stream.name) ? self.stream.name : '') == \
     (has(oldSelf.stream) && has(oldSelf.stream.name) ? oldSelf.stream.name : '')"
).message("stream.name is immutable, also from and to its default").field_path(".stream.name"))]
#[x_kube(validation = Rule::new(
    "(has(self.stream) && has(self.stream.storage) ? self.stream.storage : 'File') == \
     (has(oldSelf.stream) && has(oldSelf.stream.storage) ? oldSelf.stream.storage : 'File')"
).message("stream.storage is immutable").field_path(".stream.storage"))]
#[x_kube(validation = Rule::new(
    "(has(self.stream) && has(self.stream.policy) ? self.stream.policy : 'Managed') == \
     (has(oldSelf.stream) && has(oldSelf.stream.policy) ? oldSelf.stream.policy : 'Managed')"
).message("stream.policy is immutable").field_path(".stream.policy"))]
pub struct ProducerSpec {
    /// The NATS subjects whose messages are events, 1 to 32, with the wildcards `*` (one token) and `>` (the rest, last
    /// only), such as `shop.events.>`. The first token is literal. Which subjects a namespace may use is a setting of
    /// the operator; unless configured otherwise they begin with `<namespace>.`. No two may overlap. With a managed
    /// stream, none may overlap with a subject of another stream; with `stream.policy: Existing`, each has to be within
    /// a subject of that stream. When an edit removes a subject, a managed stream keeps no more messages on it, and
    /// delivers those that it already has; from an existing stream, messages on it are no longer read.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 255), regex(pattern = patterns::SUBJECT)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub subjects: Vec<String>,
    /// The JetStream stream that keeps the events. Default: a stream named `<namespace>_<name>` on disk, with one
    /// replica, which keeps events for 7 days and takes as many bytes as the operator is set to give it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// Where events carry their type, by which Subscriptions select them. Default: the CloudEvents type if an event has
    /// one, else its subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<EventType>,
    /// The namespaces whose Subscriptions may refer to this Producer. Default: the Producer's own. An edit takes effect
    /// within seconds: deliveries for Subscriptions in a namespace that is no longer allowed stop, and their events
    /// that wait for a retry are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// What Subscriptions don't get to see of the events, by their namespaces: at most 16 policies. If several hold for a
    /// namespace, a Subscription gets none of the fields that any of them excludes, and only events that pass the filters
    /// of all. Policies apply before the Subscription's own filters and transform, and hold for every attempt and in dead
    /// letters of deliveries. Default: none. An edit, and a change of a namespace's labels, takes effect within seconds,
    /// also for events that are being retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub payload_policies: Option<Vec<PayloadPolicy>>,
    /// The defaults for `delivery` in the Producer's Subscriptions. Each of timeout, retry (as a whole) and deadLetter
    /// applies to the Subscriptions that don't give that field. Their `status.effectiveDelivery` shows the result.
    /// Default: see each field. An edit reaches the Subscriptions within seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Whether the data of events is validated by the EventSchemas of this Producer: Ignore (it is not), Warn (an event
    /// that violates its schema, or whose type has no EventSchema, is counted in `status.violations` and delivered) or
    /// Enforce (such an event is counted and becomes a dead letter). Data that isn't JSON violates any schema. Default:
    /// Ignore. An edit applies to events read after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
}

/// Whether events are validated by their schemas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum Validation {
    /// Events are not validated.
    #[default]
    Ignore,
    /// Events that violate their schema are counted and delivered.
    Warn,
    /// Events that violate their schema are counted and become dead letters.
    Enforce,
}

/// What the operator last saw of a Producer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProducerStatus {
    /// The `metadata.generation` that this status describes; -1 before the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The state in conditions: Accepted (the spec is valid and permitted), Programmed (stream and consumer exist as
    /// written), Ready (events published now can be delivered), Reconciling (readiness is pending) and Stalled (it
    /// can't be reached without an edit). For a day after it happened also EventsLost (events were removed from the
    /// stream before they were received; the message says how many and when) and StreamReplaced (another stream of the
    /// same name is in place of the one before). SubjectsUnknown while it can't be known whether the existing stream
    /// stores the subjects. StorageOvercommitted while what may be kept in NATS is more than its account lets be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Option<Vec<Condition>>,
    /// The stream, as the operator last saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamStatus>,
    /// How many Subscriptions refer to this Producer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub subscriptions: Option<i32>,
    /// How many EventSchemas refer to this Producer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub schemas: Option<i32>,
    /// How many events violated their schema, or had a type without an EventSchema, while validation was Warn or
    /// Enforce. Approximate: an event that is read again after a crash is counted again. Absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violations: Option<i64>,
}

/// A stream, as the operator last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// Name of the stream.
    pub name: String,
    /// How many events the stream holds.
    pub messages: i64,
    /// How many bytes these events take.
    pub bytes: i64,
    /// When the oldest event that the stream holds was published. Absent if it holds none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_event_time: Option<Time>,
    /// Sequence number of the oldest event that the stream holds.
    pub first_sequence: i64,
    /// Sequence number of the newest event that was published to the stream.
    pub last_sequence: i64,
}
