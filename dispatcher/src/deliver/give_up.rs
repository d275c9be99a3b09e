//! Gives up deliveries and events, which become dead letters, and Subscriptions whose endpoint is gone.

use hookwright_core::delivery::dead_letter::{DeadLetter, DeadLetterReason};
use hookwright_core::delivery::policy::DeadLetterPolicy;
use hookwright_core::payload::RenderFailure;
use hookwright_core::record::{Disabled, DisabledFor, VERSION};
use tracing::info;

use crate::config::index::Producer;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::Delivery;
use crate::deliver::redact;
use crate::parking::messages::Published;
use crate::parking::store::NotKept;

impl Deliverer {
    /// Gives a delivery up. It becomes a dead letter, unless its Subscription discards dead letters.
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
            let redacted = redact::published(&subscription.renderer, &delivery.published);
            let detail = detail.filter(|_| redacted.is_none() || !redact::may_tell_of_data(reason));
            let letter = letter.with_detail(detail.map(str::to_owned)).with_name(subscription.name.clone());
            self.keep(subscription.namespace(), letter, redacted.as_ref().unwrap_or(&delivery.published)).await;
        }
        info!(subscription = subscription.name, id = %delivery.id, reason = reason.name(), "gave up a delivery");
        self.metrics.dead_letter(reason);
        subscription.health.gave_up(self.clock.now(), delivery.counted(), &delivery.progress);
    }

    /// Gives up a delivery whose webhook can't be made. That is before the request, so no endpoint is to blame.
    pub(crate) async fn bury_unrendered(&self, delivery: &Delivery, failure: &RenderFailure) {
        self.bury(delivery, DeadLetterReason::TransformFailed, Some(&failure.to_string())).await;
    }

    /// Gives up an event that is itself at fault. It becomes one dead letter, however many Subscriptions want it.
    pub(crate) async fn bury_event(
        &self,
        producer: &Producer,
        published: &Published,
        reason: DeadLetterReason,
        detail: String,
    ) {
        let (uid, event) = (producer.record.uid.clone(), published.event.clone());
        let letter = DeadLetter::of_event(uid, event, reason, self.clock.now());
        let name = format!("{}/{}", producer.record.namespace, producer.record.name);
        let letter = letter.with_detail(Some(detail)).with_name(name.clone());
        self.keep(&producer.record.namespace, letter, published).await;
        info!(producer = name, sequence = published.event.sequence, reason = reason.name(), "gave up an event");
        self.metrics.dead_letter(reason);
    }

    /// Stores a dead letter of this namespace: the whole event while the namespace has room for it.
    async fn keep(&self, namespace: &str, letter: DeadLetter, published: &Published) {
        let whole = self.dead_letters.take(namespace, published.size());
        if !whole {
            self.metrics.dead_letter_references.inc();
        }
        self.keep_as(whole, letter, published).await;
    }

    /// Stores a dead letter: the whole event, or only a reference.
    pub(super) async fn keep_as(&self, whole: bool, letter: DeadLetter, published: &Published) {
        if let Err(NotKept(refusal)) = self.store.bury(letter, published, whole).await {
            self.metrics.dead_letter_refused(refusal.name());
        }
    }

    /// Disables a Subscription whose endpoint is gone: at once at this dispatcher, and through NATS at all others.
    pub(crate) async fn disable(&self, delivery: &Delivery) {
        let subscription = &delivery.subscription;
        let mark = Disabled {
            version: VERSION,
            generation: subscription.generation,
            resume: subscription.flow.resume,
            why: DisabledFor::EndpointGone,
            since: self.clock.now(),
            ended: None,
        };
        if self.disabled.insert(&subscription.uid, mark.clone()) {
            info!(subscription = subscription.name, "disabled a Subscription: its endpoint answered 410");
            self.store.disable(&subscription.uid, &mark).await;
        }
        self.bury(delivery, DeadLetterReason::EndpointGone, None).await;
    }
}
