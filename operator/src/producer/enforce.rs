//! Events are held against the EventSchemas only once those are in place: an event that came in between would become a
//! dead letter for want of a schema that was applied with its Producer.

use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_core::record::{self, ProducerRecord, Validation};

use super::ProducerError;
use super::validate::ValidatedProducer;
use crate::context::Context;
use crate::event_schema;

/// How many EventSchemas have to be put in place, or refused, before `Enforce` can be. None once it is: an EventSchema
/// that comes later is new, and so is the next generation of one that is there.
pub(super) async fn waits_for(producer: &ValidatedProducer, ctx: &Context) -> Result<usize, ProducerError> {
    if producer.validation != Validation::Enforce {
        return Ok(0);
    }
    let key = ConfigKey::Producer(producer.uid.clone()).to_string();
    let entry = ctx.js.get(CONFIG_BUCKET, &key).await.map_err(ProducerError::Fetch)?;
    let record = entry.and_then(|entry| record::decode::<ProducerRecord>(&entry.value).ok());
    if record.is_some_and(|record| record.validation == Validation::Enforce) {
        return Ok(0);
    }
    let unsettled = event_schema::unsettled(ctx, &producer.uid, &producer.namespace, &producer.name);
    unsettled.await.map_err(ProducerError::EventSchemas)
}
