//! The JetStream stream that keeps a Producer's events.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::plain_enum;
use crate::{Duration, Quantity, patterns};

/// The JetStream stream that keeps a Producer's events: a stream that the operator creates and keeps as written here,
/// or with policy Existing a stream that exists already and is only read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.maxAge) || !has(self.duplicateWindow) || duration(self.duplicateWindow) <= duration(self.maxAge)",
    "duplicateWindow must not be longer than maxAge"
))]
#[x_kube(validation = (
    "!has(self.policy) || self.policy != 'Existing' || has(self.name)",
    "policy Existing requires name"
))]
#[x_kube(validation = (
    "!has(self.policy) || self.policy != 'Existing' || !(has(self.storage) || has(self.replicas) || \
     has(self.maxAge) || has(self.maxBytes) || has(self.maxMessageSize) || has(self.discard) || \
     has(self.duplicateWindow) || has(self.deletionPolicy))",
    "policy Existing excludes storage, replicas, maxAge, maxBytes, maxMessageSize, discard, duplicateWindow and \
     deletionPolicy: the stream is never changed"
))]
pub struct Stream {
    /// Who manages the stream: Managed (the operator creates it and keeps it as written here, and no other Producer
    /// uses it) or Existing (it exists already, with retention Limits, and the operator never changes or deletes it;
    /// events on the Producer's subjects are read from the first one after the Producer was created). Default: Managed.
    /// Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<StreamPolicy>,
    /// Name of the stream. Which names a namespace may use is a setting of the operator; unless configured otherwise
    /// they begin with `<namespace>_`. Required with policy Existing. Default: `<namespace>_<name of the Producer>`.
    /// Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = patterns::STREAM_NAME))]
    #[x_kube(validation = (
        "!['HOOKWRIGHT_', 'KV_', 'OBJ_'].exists(p, self.startsWith(p))",
        "names that begin with HOOKWRIGHT_, KV_ or OBJ_ are reserved"
    ))]
    pub name: Option<String>,
    /// Where events are kept: File (on disk; they survive a restart of NATS) or Memory (faster; they are lost when the
    /// servers that hold them restart). Default: File. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// How many servers of the NATS cluster keep a copy: 1 to 5, and no more than the cluster has servers. Use 3 or 5
    /// to survive the loss of a server. Default: 1. An edit moves the copies while the stream stays in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: Option<i32>,
    /// How long an event is kept, such as `168h`; at least 100ms. The time is the same whether or not the event has
    /// been delivered. Default: 168h (7 days). An edit to a shorter time drops older events at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) >= duration('100ms')", "must be at least 100ms"))]
    pub max_age: Option<Duration>,
    /// How many bytes the stream keeps, such as `10Gi`; discard says what happens beyond. NATS reserves them. Default: a
    /// setting of the operator, 1Gi unless configured otherwise. An edit to a smaller size drops the oldest events at
    /// once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Quantity>,
    /// The largest event that may be published, headers included, such as `256Ki`; at most 64Mi. NATS refuses larger
    /// events, and their publishers get an error. Default: the largest message that the NATS server accepts, less 32Ki,
    /// which Hookwright needs for headers of its own. An edit applies to events published after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = (
        "type(self) == int ? self <= 67108864 : \
         isQuantity(self) && quantity(self).compareTo(quantity('64Mi')) <= 0",
        "must be at most 64Mi"
    ))]
    pub max_message_size: Option<Quantity>,
    /// What happens when maxBytes is reached: Old (the oldest event is dropped, delivered or not) or New (NATS refuses
    /// further events, and their publishers get an error). Default: Old. An edit applies at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discard: Option<Discard>,
    /// How long NATS remembers the `Nats-Msg-Id` of an event and drops further events with the same id; at least 100ms
    /// and not longer than maxAge. Default: 2m, or maxAge if that is shorter. An edit applies at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) >= duration('100ms')", "must be at least 100ms"))]
    pub duplicate_window: Option<Duration>,
    /// What becomes of the stream when the Producer is deleted: Retain (it stays with its events, and a new Producer
    /// of the same name in the same namespace takes it up where this one was) or Delete (it is deleted with its events). Default: Retain. An edit has an effect only before
    /// the Producer is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Who manages a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum StreamPolicy {
    /// The operator creates the stream and keeps it as the Producer says.
    #[default]
    Managed,
    /// Someone else manages the stream: it is read and never changed.
    Existing,
}

/// Where the events of a stream are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum Storage {
    /// Events are kept on disk.
    #[default]
    File,
    /// Events are kept in memory.
    Memory,
}

/// What happens when a stream is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum Discard {
    /// The oldest event is dropped.
    #[default]
    Old,
    /// The event that is being published is refused.
    New,
}

/// What becomes of a stream when its Producer is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum DeletionPolicy {
    /// The stream stays with its events.
    #[default]
    Retain,
    /// The stream is deleted with its events.
    Delete,
}
