//! Event types: where a Producer's events carry their type, and how a Subscription selects events by it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns;
use crate::schema::plain_enum;

/// Where the events of a Producer carry their type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "(has(self.from) && self.from == 'Header') == has(self.header)",
    "header is required with from: Header, and allowed only with it"
))]
#[x_kube(validation = (
    "!has(self.stripPrefix) || !has(self.from) || self.from == 'Subject'",
    "stripPrefix applies to types taken from the subject: it needs from: Subject, or no from"
))]
pub struct EventType {
    /// Where the type is read from: CloudEvents (the event's `ce-type` header, or `type` in structured mode), Subject
    /// (the NATS subject, without stripPrefix) or Header (the NATS header named in `header`). With CloudEvents and
    /// Header, an event without a type there is malformed and becomes a dead letter. Default: the CloudEvents type if
    /// the event has one, else the subject. An edit applies to events read after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<EventTypeFrom>,
    /// The NATS header that holds the type, such as `X-Event-Type`. Required with from: Header, refused otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = patterns::HEADER_NAME))]
    pub header: Option<String>,
    /// Leading tokens, ending with a dot, to cut from a subject before it becomes the type: with `shop.events.` the
    /// subject `shop.events.order.created` gives the type `order.created`. A subject without this prefix becomes the
    /// type as it is. Default: nothing is cut. An edit applies to events read after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 255), regex(pattern = patterns::SUBJECT_PREFIX))]
    pub strip_prefix: Option<String>,
}

/// Where an event's type is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum EventTypeFrom {
    /// The CloudEvents attribute `type`.
    CloudEvents,
    /// The NATS subject.
    Subject,
    /// A NATS header.
    Header,
}

/// A selection of events by their type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EventTypeSelector {
    /// A pattern over the event's type, in dot-separated tokens as in NATS: `order.created` is that type alone,
    /// `order.*` matches one token after `order.`, `order.>` one or more, `>` every type. `*` stands for a whole token
    /// and `>` is the last one.
    #[serde(rename = "type")]
    #[schemars(length(max = 255), regex(pattern = patterns::EVENT_TYPE))]
    #[x_kube(validation = (
        "self != '' && !self.contains('\\n')",
        "type is empty or has a line break: a > without quotes begins a block of text in YAML, so write '>' or leave eventTypes out"
    ))]
    pub type_: String,
    /// The major version of the type's EventSchema that an event has to have, such as `1`: events of other versions,
    /// and of types without an EventSchema, are left out. An event's version is its `schemaversion`, else the one whose
    /// `uri` is its `dataschema`, else the highest. Default: every version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9), regex(pattern = patterns::MAJOR_VERSION))]
    pub version: Option<String>,
}
