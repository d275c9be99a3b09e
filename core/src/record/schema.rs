//! The record of an EventSchema, and the records around validation.

use serde::{Deserialize, Serialize};

use crate::nats::ids::{EventSchemaUid, ProducerUid};
use crate::schema::VersionedSchema;

/// Whether the events of a Producer are validated by their schemas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Validation {
    /// Events are not validated.
    #[default]
    Ignore,
    /// An event that violates its schema, or whose type has no EventSchema, is counted and delivered.
    Warn,
    /// An event that violates its schema, or whose type has no EventSchema, is counted and becomes a dead letter.
    Enforce,
}

impl Validation {
    pub(super) fn is_ignore(&self) -> bool {
        *self == Self::Ignore
    }
}

/// The record of an EventSchema: the value of `schema.<producer>.<event schema>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventSchemaRecord {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The uid of the EventSchema.
    pub uid: EventSchemaUid,
    /// The generation of the EventSchema.
    pub generation: i64,
    /// The namespace of the EventSchema.
    pub namespace: String,
    /// The name of the EventSchema.
    pub name: String,
    /// The Producer of the events.
    pub producer: ProducerUid,
    /// The type of the events.
    pub event_type: String,
    /// The schema of each version.
    pub versions: Vec<VersionedSchema>,
}

/// How many events of a Producer violated their schemas: the value of `violations.<producer>`. Dispatchers add to it by
/// compare-and-set. The count is approximate: an event that comes again after a crash is counted again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Violations {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The number of events.
    pub count: u64,
}
