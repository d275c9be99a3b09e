//! An EventSchema as the dispatcher uses it.

use std::sync::Arc;

use hookwright_core::record::EventSchemaRecord;
use hookwright_core::schema::{EventSchema, SchemaError};

/// An EventSchema from its record, compiled if possible.
pub(crate) struct Schema {
    /// The type of the events that the schema describes.
    pub(crate) event_type: String,
    /// The compiled schema; `None` if it can't be compiled. The operator checks schemas first, but a dispatcher of
    /// another release may have other bounds.
    pub(crate) compiled: Option<Arc<EventSchema>>,
    /// The record's bytes in the bucket.
    record: Box<[u8]>,
}

impl Schema {
    /// Compiles the schema of a record, which was read from `bytes`. Returns with it why it can't be compiled, if so.
    pub(crate) fn compile(record: &EventSchemaRecord, bytes: &[u8]) -> (Self, Option<SchemaError>) {
        let (compiled, error) = match EventSchema::compile(&record.versions) {
            Ok(schema) => (Some(Arc::new(schema)), None),
            Err(error) => (None, Some(error)),
        };
        (Self { event_type: record.event_type.clone(), compiled, record: bytes.into() }, error)
    }

    /// Whether the schema was made from this very record. Then compiling it again would give the same result.
    pub(crate) fn is_of(&self, bytes: &[u8]) -> bool {
        *self.record == *bytes
    }
}
