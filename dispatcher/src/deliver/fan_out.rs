//! Fans an event out: it is read once, matched once, and delivered to each Subscription that wants it.

use std::sync::Arc;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::health::Waiting;
use hookwright_core::event::{Event, Shared};
use hookwright_core::expression::Variables;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::record::Validation;
use hookwright_core::select::filter::Verdict;
use tokio::time::Instant;

use crate::ack::hold::{Abandoned, Hold};
use crate::config::index::{Matches, Producer};
use crate::deliver::deliverer::Deliverer;
use crate::deliver::queued::{Permits, Queued};
use crate::deliver::reading::{self, Unreadable};
use crate::deliver::sift::{Sifted, sift};
use crate::limits::read_ahead::Coming;
use crate::panics;
use crate::parking::messages::Published;

/// An event that has been read and is not handed out yet.
struct Arrived {
    producer: Arc<Producer>,
    published: Published,
    event: Event,
    coming: Coming,
    hold: Hold<Permits>,
}

impl Deliverer {
    /// Hands each delivery of the event to its lane. Most events need not wait on the way there; the others wait in a
    /// task.
    pub(crate) fn fan_out(
        self: &Arc<Self>,
        producer: &ProducerUid,
        mut published: Published,
        coming: Coming,
        hold: Hold<Permits>,
    ) {
        let Some(producer) = self.index.producer(producer) else { return };
        let event = match reading::read(&mut published, &producer) {
            Ok(event) => event,
            Err(Unreadable { reason, detail }) => return self.reject(producer, published, reason, detail, hold),
        };
        let deliverer = Arc::clone(self);
        let arrived = Arrived { producer, published, event, coming, hold };
        if arrived.producer.record.validation != Validation::Ignore {
            tokio::spawn(async move { deliverer.validate(arrived).await });
            return;
        }
        if let Some(arrived) = self.hand_out(arrived) {
            tokio::spawn(async move { deliverer.wait_for_room(arrived).await });
        }
    }

    /// Gives up an event that is itself at fault, and settles it. If this dispatcher may not go on, the event is
    /// abandoned.
    pub(crate) fn reject(
        self: &Arc<Self>,
        producer: Arc<Producer>,
        published: Published,
        reason: DeadLetterReason,
        detail: String,
        hold: Hold<Permits>,
    ) {
        if !self.liveness.is_live() {
            return;
        }
        let deliverer = Arc::clone(self);
        tokio::spawn(async move {
            deliverer.bury_event(&producer, &published, reason, detail).await;
            hold.settled(None);
        });
    }

    /// Queues a delivery for each Subscription that wants the event. Returns the event if it has to wait for room. If
    /// this dispatcher may not go on, the event is abandoned.
    fn hand_out(self: &Arc<Self>, arrived: Arrived) -> Option<Arrived> {
        let matched = panics::caught(|| self.sifted(&arrived));
        let (Sifted { wanted, unsure, out, forbidden }, version) = match matched {
            Ok(matched) => matched?,
            Err(panic) => {
                let Arrived { producer, published, hold, .. } = arrived;
                let Unreadable { reason, detail } = Unreadable::panicked(&panic);
                self.reject(producer, published, reason, detail, hold);
                return None;
            }
        };
        // Checked after the match: if the lease was lost before, the index may have been out of date.
        if !self.liveness.is_live() {
            return None;
        }
        let deliveries = wanted.len() + unsure.len();
        arrived.coming.saw(deliveries);
        let Some(mut places) = arrived.coming.queue(deliveries) else { return Some(arrived) };
        let Arrived { published, mut event, coming, hold, .. } = arrived;
        // Filters are done with what they had parsed, which takes much memory.
        if unsure.is_empty() && !wanted.iter().any(|subscription| subscription.renderer.parses()) {
            event.parsed = Shared::default();
        }
        drop(coming);
        self.metrics.events.inc();
        let (published, event) = (Arc::new(published), Arc::new(event));
        out.iter().for_each(|(subscription, verdict)| self.filtered(subscription, &event, *verdict));
        forbidden.iter().for_each(|(to, forbidden)| self.drop_forbidden(to, *forbidden, Waiting::default()));
        // The clock starts here, because no endpoint is to blame for the time that validation and the wait for room
        // take.
        let received = Instant::now();
        let mut queued = |subscription| Queued {
            deliverer: Arc::clone(self),
            subscription,
            published: Arc::clone(&published),
            event: Arc::clone(&event),
            received,
            version,
            parked: None,
            place: Some(places.one()),
            hold: hold.part(),
        };
        for subscription in wanted {
            self.filtered(&subscription, &event, Verdict::Matches);
            queued(subscription).enter();
        }
        if !unsure.is_empty() {
            let unsure = unsure.into_iter().map(queued).collect();
            tokio::spawn(Arc::clone(self).sift_later(unsure));
        }
        hold.settled(None);
        None
    }

    /// The Subscriptions that may want the event, and the version of the index in which they were found; `None` if the
    /// Producer is no longer served.
    fn sifted(&self, arrived: &Arrived) -> Option<(Sifted, u64)> {
        let Arrived { producer, event, .. } = arrived;
        let variables = Variables::of(event);
        let Matches { subscriptions, version } = self.index.matches(&producer.record.uid, &variables)?;
        Some((sift(subscriptions, &variables), version))
    }

    async fn validate(self: &Arc<Self>, arrived: Arrived) {
        match self.passes(&arrived.producer, &arrived.published, &arrived.event).await {
            Ok(true) => {
                if let Some(arrived) = self.hand_out(arrived) {
                    self.wait_for_room(arrived).await;
                }
            }
            Ok(false) => arrived.hold.settled(None),
            Err(Abandoned) => {}
        }
    }

    async fn wait_for_room(self: &Arc<Self>, mut arrived: Arrived) {
        while self.stop.run_until_cancelled(arrived.coming.room_for_many()).await.is_some() {
            let Some(waits) = self.hand_out(arrived) else { return };
            arrived = waits;
        }
    }

    /// Whether the event is to be delivered: it is valid, or its Producer only warns.
    async fn passes(&self, producer: &Producer, published: &Published, event: &Event) -> Result<bool, Abandoned> {
        let (reason, detail) = match self.validator.violation(producer, event).await {
            Ok(None) => return Ok(true),
            Ok(Some(violation)) => (DeadLetterReason::SchemaViolation, violation.to_string()),
            Err(panic) => (DeadLetterReason::Internal, format!("validating the event panicked: {panic}")),
        };
        if !self.is_current(producer) {
            return Err(Abandoned);
        }
        Ok(self.tolerates(producer, published, reason, detail).await)
    }

    /// Whether what was found with the Producer's schemas counts. If the lease was lost, an old schema may have been used.
    /// If the Producer is no longer served, a schema may have been used that can't be compiled.
    pub(crate) fn is_current(&self, producer: &Producer) -> bool {
        self.liveness.is_live() && self.index.producer(&producer.record.uid).is_some()
    }

    /// Counts a violation, and returns whether the event is delivered all the same. If the schema is enforced, the
    /// event becomes a dead letter.
    async fn tolerates(
        &self,
        producer: &Producer,
        published: &Published,
        reason: DeadLetterReason,
        detail: String,
    ) -> bool {
        let enforced = producer.record.validation == Validation::Enforce;
        self.metrics.schema_violation(if enforced { "Enforce" } else { "Warn" });
        self.violations.add(&producer.record.uid);
        if enforced {
            self.bury_event(producer, published, reason, detail).await;
        }
        !enforced
    }
}
