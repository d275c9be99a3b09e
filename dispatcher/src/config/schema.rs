//! An EventSchema as a dispatcher has it.

use std::sync::Arc;

use hookwright_core::record::EventSchemaRecord;
use hookwright_core::schema::{EventSchema, SchemaError};

/// What became of a record.
pub(crate) struct Schema {
    /// The type of the events.
    pub(crate) event_type: String,
    /// None if it can't be compiled. The operator checks first; a dispatcher of another release may have other bounds.
    pub(crate) compiled: Option<Arc<EventSchema>>,
    /// As it is in the bucket.
    record: Box<[u8]>,
}

impl Schema {
    /// From the record, which was read from `bytes`; and why it can't be compiled, if so.
    pub(crate) fn compile(record: &EventSchemaRecord, bytes: &[u8]) -> (Self, Option<SchemaError>) {
        let (compiled, error) = match EventSchema::compile(&record.versions) {
            Ok(schema) => (Some(Arc::new(schema)), None),
            Err(error) => (None, Some(error)),
        };
        (Self { event_type: record.event_type.clone(), compiled, record: bytes.into() }, error)
    }

    /// Whether it was made from this very record: compiling that would come to the same.
    pub(crate) fn is_of(&self, bytes: &[u8]) -> bool {
        *self.record == *bytes
    }
}
