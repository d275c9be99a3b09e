//! A Producer enforces its EventSchemas only once they are in place. An event that came in between would become a dead
//! letter for want of a schema that was applied together with its Producer.

use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_core::record::{self, ProducerRecord, Validation};
use hookwright_crds::EventSchema;
use kube::Api;
use kube::api::ListParams;

use super::validate::ValidatedProducer;
use crate::context::Context;
use crate::lenient::Metadata;
use crate::reconcile::error::ReconcileError;

/// Returns how many EventSchemas have to be put in place, or refused, before the Producer can enforce them. Returns 0
/// once it enforces: a later EventSchema is new, and so is the next generation of one that is there.
pub(super) async fn waits_for(producer: &ValidatedProducer, ctx: &Context) -> Result<usize, ReconcileError> {
    if producer.validation != Validation::Enforce {
        return Ok(0);
    }
    let key = ConfigKey::Producer(producer.uid.clone()).to_string();
    let entry = ctx.js.get(CONFIG_BUCKET, &key).await?;
    let record = entry.and_then(|entry| record::decode::<ProducerRecord>(&entry.value).ok());
    if record.is_some_and(|record| record.validation == Validation::Enforce) {
        return Ok(0);
    }
    unsettled(producer, ctx).await.map_err(|error| ReconcileError::EventSchemas(error.into()))
}

/// Returns how many EventSchemas of the Producer are not settled. The API server lists them: the watch may not have
/// brought one that was there before the Producer.
async fn unsettled(producer: &ValidatedProducer, ctx: &Context) -> Result<usize, kube::Error> {
    let api: Api<Metadata<EventSchema>> = Api::namespaced(ctx.client.clone(), &producer.namespace);
    let selector = format!("spec.producerRef.name={}", producer.name);
    let all = api.list(&ListParams::default().fields(&selector)).await?;
    let waits = |schema: &&Metadata<EventSchema>| {
        let (uid, generation) = (ctx.identities.of(*schema), schema.meta.generation.unwrap_or_default());
        schema.meta.deletion_timestamp.is_none() && !ctx.settled_schemas.has(&uid, &producer.uid, generation)
    };
    Ok(all.iter().filter(waits).count())
}
