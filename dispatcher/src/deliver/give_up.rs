//! What is given up: dead letters of deliveries and of events, and endpoints that are gone.

use hookwright_core::delivery::dead_letter::DeadLetter;
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::policy::DeadLetterPolicy;
use tracing::info;

use crate::config::index::Producer;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::Delivery;
use crate::parking::messages::Published;

impl Deliverer {
    /// Gives a delivery up: it becomes a dead letter, unless its Subscription discards them.
    pub(crate) async fn bury(&self, delivery: &Delivery, reason: DeadLetterReason, detail: Option<&str>) {
        let subscription = &delivery.subscription;
        if subscription.policy.dead_letter == DeadLetterPolicy::Keep {
            let letter = DeadLetter::of_delivery(
                subscription.uid.clone(),
                subscription.producer.clone(),
                delivery.id.clone(),
                delivery.published.event.clone(),
                delivery.progress.clone(),
                reason,
                self.clock.now(),
            );
            self.store.bury(letter.with_detail(detail.map(str::to_owned)), &delivery.published).await;
        }
        info!(subscription = subscription.name, id = %delivery.id, reason = reason.name(), "dead letter");
        self.metrics.dead_letter(reason);
        subscription.health.gave_up(self.clock.now(), delivery.counted(), &delivery.progress);
    }

    /// Gives an event up that is itself at fault: one dead letter, whoever is subscribed.
    pub(crate) async fn bury_event(
        &self,
        producer: &Producer,
        published: &Published,
        reason: DeadLetterReason,
        detail: String,
    ) {
        let (uid, event) = (producer.record.uid.clone(), published.event.clone());
        let letter = DeadLetter::of_event(uid, event, reason, self.clock.now());
        self.store.bury(letter.with_detail(Some(detail)), published).await;
        let name = format!("{}/{}", producer.record.namespace, producer.record.name);
        info!(producer = name, sequence = published.event.sequence, reason = reason.name(), "dead letter");
        self.metrics.dead_letter(reason);
    }

    /// Disables the Subscription, whose endpoint is gone: at once here, and by NATS for all dispatchers.
    pub(crate) async fn disable(&self, delivery: &Delivery) {
        let subscription = &delivery.subscription;
        if self.disabled.insert(&subscription.uid, subscription.generation) {
            info!(subscription = subscription.name, "disabled: the endpoint answered 410");
            self.store.disable(&subscription.uid, subscription.generation, self.clock.now()).await;
        }
        self.bury(delivery, DeadLetterReason::EndpointGone, None).await;
    }
}
