//! Gives up deliveries and events, which become dead letters, and Subscriptions whose endpoint is gone.

use std::sync::Arc;

use hookwright_core::delivery::dead_letter::{DeadLetter, DeadLetterReason};
use hookwright_core::delivery::health::Waiting;
use hookwright_core::delivery::policy::DeadLetterPolicy;
use hookwright_core::payload::{Forbidden, RenderFailure};
use hookwright_core::record::{Disabled, DisabledFor, VERSION};
use http::HeaderValue;
use tokio::task::block_in_place;
use tracing::info;

use crate::config::index::{Lookup, Producer};
use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::Delivery;
use crate::deliver::redact::{self, Told};
use crate::parking::messages::Published;
use crate::parking::store::NotKept;

impl Deliverer {
    /// Gives a delivery up. It becomes a dead letter, unless its Subscription discards dead letters.
    pub(crate) async fn bury(&self, delivery: &Delivery, reason: DeadLetterReason, detail: Option<&str>) {
        // What is withheld now counts, not what was when the attempt began.
        let subscription = match self.index.lookup(&delivery.subscription.uid) {
            Lookup::Serving(current, _) => current,
            _ => Arc::clone(&delivery.subscription),
        };
        let told = match self.told(&subscription, &delivery.published) {
            Told::Nothing(forbidden) => return self.drop_forbidden(&subscription, forbidden, delivery.counted()),
            Told::Whole => None,
            Told::Redacted(redacted) => Some(redacted),
        };
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
            let detail = detail.filter(|_| told.is_none() || !redact::may_tell_of_data(reason));
            let letter = letter.with_detail(detail.map(str::to_owned)).with_name(subscription.name.clone());
            self.keep(subscription.namespace(), letter, told.as_ref().unwrap_or(&delivery.published)).await;
        }
        info!(subscription = subscription.name, id = %delivery.id, reason = reason.name(), "gave up a delivery");
        self.metrics.dead_letter(reason);
        subscription.health.gave_up(self.clock.now(), delivery.counted(), &delivery.progress);
    }

    fn told(&self, subscription: &Subscription, published: &Published) -> Told {
        let producer = self.index.producer(&subscription.producer);
        let unknown = HeaderValue::from_static("/");
        let source = producer.as_ref().map_or(&unknown, |producer| &producer.source);
        let told = || redact::told(&subscription.renderer, source, published);
        // The Producer's filters may take a while.
        if subscription.renderer.has_filters() { block_in_place(told) } else { told() }
    }

    /// Drops a delivery that a policy of the Producer forbids. Nothing but the number is told of it. `waited` is the amount
    /// that it counted for as waiting.
    pub(crate) fn drop_forbidden(&self, subscription: &Subscription, forbidden: Forbidden, waited: Waiting) {
        self.metrics.forbidden(forbidden.failed);
        subscription.health.forbidden(waited);
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
