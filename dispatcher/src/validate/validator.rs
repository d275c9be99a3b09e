//! Validates events against their schemas.

use std::sync::Arc;

use hookwright_core::event::Event;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::record::Validation;
use hookwright_core::schema::{EventSchema, Instance, Violation};

use crate::config::index::{Index, Producer};
use crate::metrics::Metrics;
use crate::panics;
use crate::validate::fair_queue::FairQueue;

/// Reading a larger body takes longer than a thread of the runtime should be kept busy.
pub(crate) const QUICKLY_READ: usize = 64 * 1024;

/// Validates events. A validation that takes more than a fraction of a millisecond runs off the runtime: a tenant's
/// schema must not keep the lease from being renewed, nor other Producers waiting.
pub(crate) struct Validator {
    index: Arc<Index>,
    metrics: Arc<Metrics>,
    fair_queue: Arc<FairQueue<ProducerUid>>,
}

impl Validator {
    pub(crate) fn new(index: Arc<Index>, metrics: Arc<Metrics>) -> Self {
        Self { index, metrics, fair_queue: FairQueue::of_processors() }
    }

    /// The queues of events that wait for an expensive validation.
    pub(crate) fn fair_queue(&self) -> &Arc<FairQueue<ProducerUid>> {
        &self.fair_queue
    }

    /// The first violation of an event; `None` if there is none, or if the Producer ignores violations.
    ///
    /// # Errors
    /// If the validation panicked: the panic's message.
    pub(crate) async fn violation(&self, producer: &Producer, event: &Event) -> Result<Option<Violation>, String> {
        if producer.record.validation == Validation::Ignore {
            return Ok(None);
        }
        let schema = match self.index.schema(&producer.record.uid, &event.event_type) {
            Ok(schema) => schema,
            Err(violation) => return Ok(Some(violation)),
        };
        if let Some(validated) = panics::caught(|| self.at_once(&schema, event))? {
            return Ok(validated.err());
        }
        let turn = self.fair_queue.take(&producer.record.namespace, &producer.record.uid).await;
        let (event, metrics) = (event.clone(), Arc::clone(&self.metrics));
        let validated = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            panics::caught(|| check(&schema, &Instance::of(&event)?, &metrics))
        });
        let validated = validated.await.unwrap_or_else(|failure| Err(failure.to_string()))?;
        Ok(validated.err())
    }

    /// Validates the event on this thread; `None` if that would take long.
    fn at_once(&self, schema: &EventSchema, event: &Event) -> Option<Result<(), Violation>> {
        if event.body.len() > QUICKLY_READ {
            return None;
        }
        let instance = match Instance::of(event) {
            Ok(instance) => instance,
            Err(violation) => return Some(Err(violation)),
        };
        if !schema.is_quick(&instance) {
            return None;
        }
        Some(check(schema, &instance, &self.metrics))
    }
}

fn check(schema: &EventSchema, instance: &Instance, metrics: &Metrics) -> Result<(), Violation> {
    if schema.is_deprecated(instance) {
        metrics.deprecated_events.inc();
    }
    schema.validate(instance)
}
