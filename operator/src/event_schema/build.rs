//! Step 3: builds the record.

use hookwright_core::record::{EventSchemaRecord, VERSION};
use hookwright_crds::Reason;

use super::fetch::Fetched;
use super::validate::ValidatedEventSchema;
use crate::refusal::Refusal;

pub(super) fn build(schema: &ValidatedEventSchema, fetched: &Fetched) -> Result<EventSchemaRecord, Refusal> {
    let Some(producer) = &fetched.producer else {
        let message = format!("Producer {:?} doesn't exist in this namespace.", schema.producer);
        return Err(Refusal::new(Reason::ProducerNotFound, message));
    };
    Ok(EventSchemaRecord {
        version: VERSION,
        uid: schema.uid.clone(),
        generation: schema.generation,
        namespace: schema.namespace.clone(),
        name: schema.name.clone(),
        producer: producer.clone(),
        event_type: schema.event_type.clone(),
        versions: schema.versions.clone(),
    })
}
