//! Events held against their schemas.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hookwright_core::event::Event;
use hookwright_core::record::Validation;
use hookwright_core::schema::{Effort, EventSchema, Subject, Violation};
use tokio::sync::Semaphore;

use crate::index::{Index, Producer};
use crate::metrics::Metrics;

/// Validates. What takes more than milliseconds is done off the runtime, one event at a time: a tenant's schema must not
/// keep the lease from being renewed.
pub(crate) struct Validator {
    index: Arc<Index>,
    metrics: Arc<Metrics>,
    large: Semaphore,
}

impl Validator {
    pub(crate) fn new(index: Arc<Index>, metrics: Arc<Metrics>) -> Self {
        Self { index, metrics, large: Semaphore::new(1) }
    }

    /// The first violation of an event, as far as its producer wants to know.
    pub(crate) async fn violation(&self, producer: &Producer, event: &Event) -> Option<Violation> {
        let enforced = match producer.record.validation {
            Validation::Ignore => return None,
            Validation::Warn => false,
            Validation::Enforce => true,
        };
        let Some(schema) = self.index.schema(&producer.record.uid, &event.event_type) else {
            return enforced.then(Violation::no_schema);
        };
        let subject = match Subject::of(event) {
            Ok(subject) => subject,
            Err(violation) => return Some(violation),
        };
        if schema.is_deprecated(&subject) {
            self.metrics.deprecated_events.inc();
        }
        match schema.effort(&subject) {
            Effort::Small | Effort::TooLarge => {
                // A panic in the library is this event's fault, not the end of the task that holds it.
                let result = catch_unwind(AssertUnwindSafe(|| schema.validate(&subject)));
                result.unwrap_or_else(|_| Err(Violation::failed())).err()
            }
            Effort::Large => self.aside(schema, subject).await,
        }
    }

    async fn aside(&self, schema: Arc<EventSchema>, subject: Subject) -> Option<Violation> {
        // Never closed.
        let _permit = self.large.acquire().await.ok();
        let result = tokio::task::spawn_blocking(move || schema.validate(&subject)).await;
        result.unwrap_or_else(|_| Err(Violation::failed())).err()
    }
}
