//! Records of event schemas.

use serde::{Deserialize, Serialize};

use crate::nats::ids::{EventSchemaUid, ProducerUid};
use crate::schema::VersionedSchema;

/// Whether a producer's events are held against their schemas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Validation {
    /// They are not.
    #[default]
    Ignore,
    /// An event that violates its schema, or whose type has none, is counted and delivered.
    Warn,
    /// Such an event is counted and becomes a dead letter.
    Enforce,
}

impl Validation {
    pub(super) fn is_ignore(&self) -> bool {
        *self == Self::Ignore
    }
}

/// What the data of an event type looks like: the value of `schema.<producer>.<event schema>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventSchemaRecord {
    /// [`crate::codec::VERSION`].
    pub version: u32,
    /// The object's uid.
    pub uid: EventSchemaUid,
    /// Its generation.
    pub generation: i64,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whose events these are.
    pub producer: ProducerUid,
    /// Their type.
    pub event_type: String,
    /// By version.
    pub versions: Vec<VersionedSchema>,
}

/// How many events of a producer were not as their schemas say: the value of `violations.<producer>`. Dispatchers add to
/// it by compare-and-set. Approximate: an event that comes again after a crash is counted again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Violations {
    /// [`crate::codec::VERSION`].
    pub version: u32,
    /// How many.
    pub count: u64,
}
