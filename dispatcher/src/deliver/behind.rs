//! Deliveries of Subscriptions that are behind, or whose events must not be delivered now.

use hookwright_core::delivery::postpone::Postponed;
use hookwright_core::position::{Gone, Reason};

use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::{Delivery, Origin, Standing};
use crate::parking::messages::Published;

impl Deliverer {
    /// Why nothing may be delivered to the Subscription now, by its spec or because its endpoint is gone.
    pub(crate) fn held_back(&self, subscription: &Subscription) -> Option<Reason> {
        if subscription.flow.suspended {
            return Some(Reason::Suspended);
        }
        self.disabled.contains(&subscription.uid, subscription.generation).then_some(Reason::EndpointGone)
    }

    /// How the Subscription, which is served, stands to this event.
    pub(crate) fn flow(&self, subscription: &Subscription, published: &Published, origin: Origin) -> Standing {
        let held_back = self.held_back(subscription);
        if subscription.position.is_live() {
            return held_back.map_or(Standing::Served, Standing::Behind);
        }
        let known = subscription.position.known();
        let position = known.position.as_deref();
        let event = &published.event;
        let shared = origin == Origin::Shared;
        if shared && position.is_some_and(|position| position.covers(event.stream_created, event.sequence)) {
            return Standing::Covered;
        }
        if let Some(reason) = held_back {
            return Standing::Behind(reason);
        }
        let now = self.clock.now();
        let closed = position.and_then(|position| position.waits).filter(|waits| waits.is_closed(now));
        match closed {
            Some(waits) if waits.breaker => Standing::Behind(Reason::EndpointFailing),
            Some(_) => Standing::Behind(Reason::RetryAfter),
            // What can't be read may cover the event.
            None if shared && known.unreadable => Standing::Behind(Reason::Suspended),
            None if shared && position.is_some_and(|position| position.is_behind()) => {
                Standing::Behind(position.and_then(|position| position.reason).unwrap_or(Reason::Suspended))
            }
            None => Standing::Served,
        }
    }

    /// Settles a delivery that must not be attempted now: its event stays in the stream or, if it was parked before or the
    /// position can't cover it, it is parked.
    pub(super) async fn stay_behind(&self, delivery: Delivery, reason: Reason) {
        let (cell, event) = (&delivery.subscription.position, &delivery.published.event);
        let now = self.clock.now();
        if delivery.origin == Origin::Shared {
            let place = (event.stream_created, event.sequence);
            if self.positions.go_behind(cell, place, now, reason).await != Gone::Park {
                return;
            }
        }
        self.positions.wait(cell, event.stream_created, now).await;
        self.postpone(delivery, Postponed::Behind).await;
    }
}
