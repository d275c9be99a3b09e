//! An event from a producer's stream: read once, matched once, delivered to all that want it.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hookwright_core::decide::DeadLetterReason;
use hookwright_core::delivery_id::DeliveryKey;
use hookwright_core::event::{Event, Reading, parse};
use hookwright_core::ids::ProducerUid;
use hookwright_core::parked::{DeadLetter, Progress};
use hookwright_core::record::{VERSION, Validation};
use hookwright_core::schema::Violation;
use tokio::time::Instant;
use tracing::info;

use crate::backlog::{Coming, Queued};
use crate::deliver::{Deliverer, Delivery, Slot};
use crate::hold::Abandoned;
use crate::index::{Matches, Producer};
use crate::messages::Published;
use crate::subscription::Subscription;

impl Deliverer {
    /// Returns when each delivery of the event is done or stored, with the slot of the last one.
    ///
    /// What few events need is boxed: there are thousands of these at a time, and their size is what costs most.
    #[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice")]
    pub(crate) fn fan_out(
        &self,
        producer: &ProducerUid,
        mut published: Published,
        coming: Coming,
    ) -> impl Future<Output = Result<Option<Slot>, Abandoned>> {
        async move {
            let producer = self.index.producer(producer).ok_or(Abandoned)?;
            let reading = Reading { rule: &producer.record.event_type, source: &producer.source, known_type: None };
            let event = match published.with_message(|message| parse(message, reading)) {
                Ok(event) => event,
                Err(_) if !self.liveness.is_live() => return Err(Abandoned),
                Err(malformed) => {
                    let detail = malformed.to_string();
                    Box::pin(self.bury_event(&producer, &published, DeadLetterReason::Malformed, detail)).await;
                    return Ok(None);
                }
            };
            published.event.event_type.clone_from(&event.event_type);
            let validated = producer.record.validation != Validation::Ignore;
            if validated && !Box::pin(self.passes(&producer, &published, &event)).await? {
                return Ok(None);
            }
            let (wanted_by, version, mut queued) = loop {
                let Matches { subscriptions, version } =
                    self.index.matches(&producer.record.uid, &event.event_type).ok_or(Abandoned)?;
                // After the match: were the lease lost before it, the index could be an old one.
                if !self.liveness.is_live() {
                    return Err(Abandoned);
                }
                coming.saw(subscriptions.len());
                if let Some(queued) = coming.queue(subscriptions.len()) {
                    break (subscriptions, version, queued);
                }
                drop(subscriptions);
                Box::pin(self.stop.run_until_cancelled(coming.room_for_many())).await.ok_or(Abandoned)?;
            };
            drop(coming);
            self.metrics.events.inc();
            // Not before: no endpoint is to blame for the time that validating or waiting for room takes.
            let received = Instant::now();
            let (event, matched) = (Arc::new(event), Matched { published: Arc::new(published), received, version });
            match <[_; 1]>::try_from(wanted_by) {
                Ok([only]) => Ok(self.deliver(matched.delivery(only, queued), event).await),
                Err(wanted_by) => {
                    let deliver =
                        |subscription| self.deliver(matched.delivery(subscription, queued.one()), Arc::clone(&event));
                    let mut deliveries: FuturesUnordered<_> = wanted_by.into_iter().map(deliver).collect();
                    drop(event);
                    let mut last = None;
                    while let Some(slot) = deliveries.next().await {
                        // None is kept while another delivery goes on: that may take long.
                        last = slot.filter(|_| deliveries.is_empty());
                    }
                    Ok(last)
                }
            }
        }
    }

    /// Whether the event is delivered, be it valid or not.
    async fn passes(&self, producer: &Producer, published: &Published, event: &Event) -> Result<bool, Abandoned> {
        let Some(violation) = self.validator.violation(producer, event).await else { return Ok(true) };
        // Were the lease lost, it could be judged by an old schema; were the producer not served any more, by one that
        // can't be used.
        if !self.liveness.is_live() || self.index.producer(&producer.record.uid).is_none() {
            return Err(Abandoned);
        }
        Ok(self.tolerates(producer, published, &violation).await)
    }

    /// Counts a violation, and returns whether the event is delivered all the same; enforced, it is buried.
    async fn tolerates(&self, producer: &Producer, published: &Published, violation: &Violation) -> bool {
        let enforced = producer.record.validation == Validation::Enforce;
        self.metrics.schema_violation(if enforced { "Enforce" } else { "Warn" });
        self.violations.add(&producer.record.uid);
        if enforced {
            self.bury_event(producer, published, DeadLetterReason::SchemaViolation, violation.to_string()).await;
        }
        !enforced
    }

    /// The event itself is at fault: one dead letter, whoever is subscribed.
    async fn bury_event(&self, producer: &Producer, published: &Published, reason: DeadLetterReason, detail: String) {
        let letter = DeadLetter {
            version: VERSION,
            reason,
            detail: Some(detail),
            time: self.clock.now(),
            producer: producer.record.uid.clone(),
            subscription: None,
            id: None,
            event: published.event.clone(),
            progress: Progress::default(),
            reference_only: false,
        };
        self.store.bury(letter, published).await;
        let name = format!("{}/{}", producer.record.namespace, producer.record.name);
        info!(producer = name, sequence = published.event.sequence, reason = reason.name(), "dead letter");
        self.metrics.dead_letter(reason);
    }
}

/// An event, as all its deliveries have it.
struct Matched {
    published: Arc<Published>,
    received: Instant,
    /// Of the index, when it was matched.
    version: u64,
}

impl Matched {
    fn delivery(&self, subscription: Arc<Subscription>, queued: Queued) -> Delivery {
        let event = &self.published.event;
        let key = DeliveryKey {
            subscription: &subscription.uid,
            stream: &event.stream,
            stream_created: event.stream_created,
            sequence: event.sequence,
        };
        Delivery {
            id: key.id(),
            published: Arc::clone(&self.published),
            progress: Progress::default(),
            waited: false,
            received: self.received,
            queued: Some(queued),
            subscription,
            version: self.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<'a, F: Future>(_: fn(&'a Deliverer, &'a ProducerUid, Published, Coming) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_event_that_waits_is_small() {
        let waiting = size(Deliverer::fan_out);
        assert!(waiting <= 1280, "{waiting} bytes");
    }
}
