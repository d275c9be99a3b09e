//! An attempt: one request, which joins an endpoint, a body and the id of what it settles. What comes before the request
//! may fail without being the endpoint's fault.

use std::sync::Arc;

use hookwright_core::delivery::outcome::{Outcome, OutcomeKind};
use hookwright_core::event::Event;
use hookwright_core::nats::delivery_id::DeliveryId;
use hookwright_core::payload::{NotRendered, Rendered};
use jiff::Timestamp;
use tokio::task::block_in_place;

use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::queued::Admitted;
use crate::http::endpoint::Unusable;
use crate::http::failure::Failure;
use crate::http::request;
use crate::http::sender::Sent;
use crate::limits::attempts::Permit;

/// One request that is to be sent.
pub(crate) struct Attempt<'a> {
    /// Whose endpoint, keys and timeout are used.
    pub(crate) subscription: &'a Subscription,
    /// What is settled by the answer.
    pub(crate) id: &'a DeliveryId,
    /// What is sent.
    pub(crate) webhook: Arc<Event>,
}

impl Deliverer {
    /// Makes the webhook of an event, if the Producer permits it. This may wait for its turn, so what was true before may
    /// not be so any more.
    pub(crate) async fn prepare(
        &self,
        subscription: &Subscription,
        event: &Arc<Event>,
        permit: &mut Permit<Admitted>,
    ) -> Result<Arc<Event>, NotRendered> {
        let rendered = if subscription.renderer.is_costly(event) {
            permit.ages();
            Box::pin(self.render_in_turn(subscription, event)).await
        } else {
            subscription.renderer.render(event)
        };
        let Rendered { event: webhook, withheld } = rendered?;
        if withheld {
            subscription.health.withheld(self.clock.now());
        }
        Ok(webhook)
    }

    /// Makes the webhook when its turn has come. A tenant's program must not keep the lease from being renewed, nor the
    /// deliveries of other Producers waiting.
    async fn render_in_turn(&self, subscription: &Subscription, event: &Arc<Event>) -> Result<Rendered, NotRendered> {
        let _turn = self.programs.take(subscription.namespace(), &subscription.uid).await;
        block_in_place(|| subscription.renderer.render(event))
    }

    /// Sends the request, signed as of `now`. The caller counts the outcome.
    pub(crate) async fn send(&self, attempt: Attempt<'_>, now: Timestamp, permit: &mut Permit<Admitted>) -> Sent {
        let Attempt { subscription, id, webhook } = attempt;
        let (template, origin) = match subscription.destination() {
            Ok(destination) => destination,
            Err(Unusable::Blocked(refusal)) => return Sent::failed(Failure::Blocked(refusal.clone())),
            Err(Unusable::Unsignable | Unusable::Refused) => {
                return Outcome::without_response(OutcomeKind::Unsignable).into();
            }
        };
        let request = request::build(template, &webhook, id, now);
        drop(webhook);
        let timeout = subscription.policy.timeout.duration();
        self.sender.send(origin, request, timeout, &self.clock, || permit.ages()).await
    }
}
