//! Events held against their schemas.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::available_parallelism;

use hookwright_core::event::Event;
use hookwright_core::record::Validation;
use hookwright_core::schema::{EventSchema, Instance, Violation};

use crate::config::index::{Index, Producer};
use crate::metrics::Metrics;
use crate::validate::fair_queue::FairQueue;

/// Reading a body that is larger takes longer than the runtime's threads should be kept.
pub(crate) const QUICKLY_READ: usize = 64 * 1024;

/// Validates. What takes more than a fraction of a millisecond is done off the runtime: a tenant's schema must not keep
/// the lease from being renewed, nor the other Producers waiting.
pub(crate) struct Validator {
    index: Arc<Index>,
    metrics: Arc<Metrics>,
    fair_queue: Arc<FairQueue>,
}

impl Validator {
    pub(crate) fn new(index: Arc<Index>, metrics: Arc<Metrics>) -> Self {
        // Half of the processors: the deliveries go on.
        let at_once = available_parallelism().map_or(1, NonZero::get).div_ceil(2);
        Self { index, metrics, fair_queue: FairQueue::new(at_once) }
    }

    /// Who waits to have an event validated.
    pub(crate) fn fair_queue(&self) -> &FairQueue {
        &self.fair_queue
    }

    /// The first violation of an event, as far as its producer wants to know.
    pub(crate) async fn violation(&self, producer: &Producer, event: &Event) -> Option<Violation> {
        if producer.record.validation == Validation::Ignore {
            return None;
        }
        let schema = match self.index.schema(&producer.record.uid, &event.event_type) {
            Ok(schema) => schema,
            Err(violation) => return Some(violation),
        };
        if let Some(judged) = self.at_once(&schema, event) {
            return judged.err();
        }
        let turn = self.fair_queue.take(&producer.record.uid).await;
        let (event, metrics) = (event.clone(), Arc::clone(&self.metrics));
        let judged = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            judge(&schema, &Instance::of(&event)?, &metrics)
        });
        judged.await.unwrap_or_else(|_| Err(Violation::failed())).err()
    }

    /// None if it would take long.
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
        // A panic in the library is this event's fault, not the end of the task that holds it.
        let judged = catch_unwind(AssertUnwindSafe(|| judge(schema, &instance, &self.metrics)));
        Some(judged.unwrap_or_else(|_| Err(Violation::failed())))
    }
}

fn judge(schema: &EventSchema, instance: &Instance, metrics: &Metrics) -> Result<(), Violation> {
    if schema.is_deprecated(instance) {
        metrics.deprecated_events.inc();
    }
    schema.validate(instance)
}
