//! The record of a Producer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::event_type::EventTypeRule;
use crate::nats::ids::ProducerUid;
use crate::record::schema::Validation;

/// The record of a Producer: the stream to read, and how to read its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProducerRecord {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The uid of the Producer.
    pub uid: ProducerUid,
    /// The generation of the Producer.
    pub generation: i64,
    /// The namespace of the Producer.
    pub namespace: String,
    /// The name of the Producer.
    pub name: String,
    /// The stream that keeps the events.
    pub stream: StreamRef,
    /// The name of the shared consumer of that stream.
    pub consumer: String,
    /// Where events carry their type.
    pub event_type: EventTypeRule,
    /// Whether events are validated by their schemas.
    #[serde(default, skip_serializing_if = "Validation::is_ignore")]
    pub validation: Validation,
}

/// A stream, told apart from earlier and later streams of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamRef {
    /// The name of the stream.
    pub name: String,
    /// When the stream was created, by the NATS server's clock.
    pub created: Timestamp,
}
