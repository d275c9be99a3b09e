//! The record of a Producer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::event_type::EventTypeRule;
use crate::nats::ids::ProducerUid;
use crate::record::schema::Validation;

/// A producer: the stream to read and how to read its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProducerRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The object's uid.
    pub uid: ProducerUid,
    /// Its generation.
    pub generation: i64,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The stream that keeps the events.
    pub stream: StreamRef,
    /// The shared consumer on it.
    pub consumer: String,
    /// Where an event's type comes from.
    pub event_type: EventTypeRule,
    /// Whether events are held against their schemas.
    #[serde(default, skip_serializing_if = "Validation::is_ignore")]
    pub validation: Validation,
}

/// A stream, told from one of the same name before or after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamRef {
    /// The name.
    pub name: String,
    /// When it was created, by the server's word.
    pub created: Timestamp,
}
