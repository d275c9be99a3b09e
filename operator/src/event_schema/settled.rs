//! Which EventSchemas this process has settled: put in place, or refused. A Producer enforces them only once all are.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hookwright_core::nats::ids::{EventSchemaUid, ProducerUid};
use hookwright_crds::EventSchema;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, ResourceExt};

use crate::context::Context;

/// The Producer and the generation for which each EventSchema is settled.
#[derive(Default)]
pub(crate) struct Settled(Mutex<HashMap<EventSchemaUid, (ProducerUid, i64)>>);

impl Settled {
    /// Returns whether that is new.
    pub(super) fn add(&self, schema: &EventSchemaUid, producer: &ProducerUid, generation: i64) -> bool {
        let now = (producer.clone(), generation);
        self.map().insert(schema.clone(), now.clone()) != Some(now)
    }

    pub(super) fn forget(&self, schema: &EventSchemaUid) {
        self.map().remove(schema);
    }

    fn has(&self, schema: &str, producer: &ProducerUid, generation: i64) -> bool {
        let Ok(schema) = EventSchemaUid::parse(schema) else { return false };
        self.map().get(&schema).is_some_and(|(of, settled)| of == producer && *settled >= generation)
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<EventSchemaUid, (ProducerUid, i64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many EventSchemas of a Producer are not settled. The API server is asked which there are: the watch may not have
/// brought one that was there before the Producer.
pub(crate) async fn unsettled(
    ctx: &Context,
    producer: &ProducerUid,
    namespace: &str,
    name: &str,
) -> Result<usize, kube::Error> {
    let api: Api<EventSchema> = Api::namespaced(ctx.client.clone(), namespace);
    let all = api.list_metadata(&ListParams::default().fields(&format!("spec.producerRef.name={name}"))).await?;
    let waits = |schema: &&PartialObjectMeta<EventSchema>| {
        let (uid, generation) = (schema.uid().unwrap_or_default(), schema.metadata.generation.unwrap_or_default());
        schema.metadata.deletion_timestamp.is_none() && !ctx.settled.has(&uid, producer, generation)
    };
    Ok(all.iter().filter(waits).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_is_for_a_producer_and_a_generation() {
        let settled = Settled::default();
        let (schema, one, other) = (
            EventSchemaUid::parse("e-1").unwrap(),
            ProducerUid::parse("p-1").unwrap(),
            ProducerUid::parse("p-2").unwrap(),
        );
        assert!(!settled.has("e-1", &one, 1));
        assert!(settled.add(&schema, &one, 1) && !settled.add(&schema, &one, 1));
        assert!(settled.has("e-1", &one, 1));
        assert!(!settled.has("e-1", &one, 2), "edited since");
        assert!(!settled.has("e-1", &other, 1), "the Producer is another one of the same name");
        assert!(settled.add(&schema, &one, 2) && settled.has("e-1", &one, 1));
        settled.forget(&schema);
        assert!(!settled.has("e-1", &one, 1));
    }
}
