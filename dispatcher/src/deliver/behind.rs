//! Deliveries of Subscriptions that are behind, or whose events must not be delivered now.

use std::sync::Arc;

use hookwright_core::delivery::event_ref::EventRef;
use hookwright_core::delivery::outcome::{Outcome, SHORT_PAUSE};
use hookwright_core::delivery::postpone::Postponed;
use hookwright_core::position::{Gone, Position, Reason, Waits};
use hookwright_core::record::DisabledFor;
use jiff::Timestamp;
use tracing::info;

use crate::config::index::Lookup;
use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::{Delivery, Origin, Standing};
use crate::http::endpoint::Unusable;
use crate::parking::messages::Published;
use crate::position::positions::Unreadable;

impl Deliverer {
    /// Why nothing may be delivered to the Subscription now, by its spec or because it is disabled.
    pub(crate) fn held_back(&self, subscription: &Subscription) -> Option<Reason> {
        // A record that is refused may also be suspended until it is right.
        if matches!(subscription.destination(), Err(Unusable::Refused | Unusable::Blocked(_))) {
            return Some(Reason::Refused);
        }
        if subscription.flow.suspended {
            return Some(Reason::Suspended);
        }
        let why = self.disabled.why(&subscription.uid, subscription.generation, subscription.flow.resume)?;
        Some(match why {
            DisabledFor::EndpointGone => Reason::EndpointGone,
            DisabledFor::Failing => Reason::Disabled,
        })
    }

    /// How the Subscription, which is served, stands to this event. `probe` says whether a parked delivery is a probe.
    pub(crate) fn flow(
        &self,
        subscription: &Subscription,
        published: &Published,
        origin: Origin,
        probe: bool,
    ) -> Standing {
        let held_back = self.held_back(subscription);
        let cell = &subscription.position;
        if cell.is_live() {
            return held_back.map_or(Standing::Served, Standing::Behind);
        }
        let known = cell.known();
        let position = known.position.as_deref();
        let EventRef { stream_created, sequence, .. } = published.event;
        let shared = origin == Origin::Shared;
        if shared && position.is_some_and(|position| position.covers(stream_created, sequence)) {
            return Standing::Covered;
        }
        if let Some(reason) = held_back {
            return Standing::Behind(reason);
        }
        let now = self.clock.now();
        let waits = position.and_then(|position| position.waits);
        let is_probe = match origin {
            Origin::Shared => false,
            Origin::Due => probe,
            Origin::Dedicated => cell.is_probe(sequence),
        };
        match waits {
            Some(Waits { until: Some(until), .. }) if now < until => Standing::Behind(Reason::RetryAfter),
            Some(Waits { breaker: true, .. }) if !is_probe => Standing::Behind(Reason::EndpointFailing),
            // What can't be read may cover the event.
            _ if shared && known.unreadable => Standing::Waits(Postponed::PositionUnreadable),
            _ if shared && position.is_some_and(Position::is_behind) => {
                Standing::Behind(position.and_then(|position| position.reason).unwrap_or(Reason::EndpointSlow))
            }
            _ => Standing::Served,
        }
    }

    /// Settles a delivery that must not be attempted now: its event stays in the stream or, if it was parked before or the
    /// position can't cover it, it is parked.
    pub(super) async fn stay_behind(&self, delivery: Delivery, reason: Reason) {
        let cell = Arc::clone(&delivery.subscription.position);
        let (created, now) = (delivery.published.event.stream_created, self.clock.now());
        match self.wait_behind(&delivery, reason, now).await {
            Ok(false) => return,
            Ok(true) => self.postpone(delivery, Postponed::Behind).await,
            Err(Unreadable) => return self.postpone(delivery, Postponed::PositionUnreadable).await,
        }
        // What waited may have been brought forward meanwhile, without this delivery. If the position can't be read by now,
        // the delivery comes due by itself.
        self.positions.refresh(&cell).await;
        let _ = self.positions.wait(&cell, created, now).await;
    }

    /// Has the event of a new delivery stay in the stream, for the Subscription's own reader. Returns whether it does.
    pub(super) async fn stays_in_stream(&self, delivery: &Delivery, reason: Reason) -> bool {
        matches!(self.wait_behind(delivery, reason, self.clock.now()).await, Ok(false))
    }

    /// Has the Subscription's position say that the delivery waits. Returns whether it has to be parked for that.
    async fn wait_behind(&self, delivery: &Delivery, reason: Reason, now: Timestamp) -> Result<bool, Unreadable> {
        let (cell, event) = (&delivery.subscription.position, &delivery.published.event);
        if delivery.origin == Origin::Shared {
            let place = (event.stream_created, event.sequence);
            if self.positions.go_behind(cell, place, now, reason).await? != Gone::Park {
                return Ok(false);
            }
        }
        self.positions.wait(cell, event.stream_created, now).await.map(|()| true)
    }

    /// Remembers that the endpoint has accepted a delivery. An open breaker closes.
    pub(super) async fn answered(&self, delivery: &Delivery) {
        let cell = &delivery.subscription.position;
        cell.succeeded();
        if self.is_broken(&delivery.subscription) {
            let created = delivery.published.event.stream_created;
            if self.positions.change(cell, created, |position| (position.answered(), ())).await.is_ok() {
                info!(subscription = delivery.subscription.name, "the endpoint is back");
            }
        }
    }

    /// Remembers that an attempt has failed. After many failures in a row the breaker opens; an endpoint that asks for a
    /// long pause gets it. In an outage on our side the first failure opens the breaker, so that nothing is used up by it,
    /// and nothing is counted. In a position that can't be read nothing is remembered.
    pub(super) async fn unanswered(&self, delivery: &Delivery, outcome: &Outcome) {
        let (cell, now) = (&delivery.subscription.position, self.clock.now());
        if matches!(self.index.lookup(cell.uid()), Lookup::Deleted) {
            return;
        }
        let created = delivery.published.event.stream_created;
        let pause = outcome.pause(now).filter(|pause| *pause > SHORT_PAUSE);
        if let Some(until) = pause.and_then(|pause| now.checked_add(pause).ok()) {
            let _ = self.positions.change(cell, created, |position| (position.pause(until, now), ())).await;
        }
        if !outcome.kind.is_of_endpoint() {
            return;
        }
        let ours = self.is_of_ours(delivery, outcome);
        if !ours && self.is_broken_by_us(&delivery.subscription) {
            // The outage on our side is over. From now on failures are the endpoint's own, and count.
            let _ = self.positions.change(cell, created, |position| (position.answered(), ())).await;
        }
        if ours || cell.failed(&delivery.id) {
            let opened = |position: &mut Position| {
                let opened = position.open_breaker(now, ours);
                (opened, opened)
            };
            if self.positions.change(cell, created, opened).await == Ok(true) {
                info!(subscription = delivery.subscription.name, ours, "attempts fail; only probes are sent");
            }
        }
    }

    /// Whether an attempt failed because of an outage on our side. Once all wait for its end, few attempts are made, so
    /// it is only over when others are answered.
    pub(super) fn is_of_ours(&self, delivery: &Delivery, outcome: &Outcome) -> bool {
        let subscription = &delivery.subscription;
        let is_ours = || subscription.tenant.is_silent() && self.tenants.is_ours();
        let goes_on = || self.is_broken_by_us(subscription) && !self.tenants.is_over();
        outcome.kind.is_of_endpoint() && !outcome.is_answered() && (is_ours() || goes_on())
    }

    /// Whether an outage on our side has opened the endpoint's breaker.
    fn is_broken_by_us(&self, subscription: &Subscription) -> bool {
        let cell = &subscription.position;
        !cell.is_live() && cell.waits().is_some_and(|waits| waits.breaker && waits.ours)
    }

    /// Why nothing but probes may be attempted at the endpoint, if that is so.
    pub(super) fn is_away(&self, subscription: &Subscription) -> Option<Reason> {
        let cell = &subscription.position;
        let waits = if cell.is_live() { None } else { cell.waits() }?;
        let reason = if waits.breaker { Reason::EndpointFailing } else { Reason::RetryAfter };
        waits.is_closed(self.clock.now()).then_some(reason)
    }

    /// Whether the endpoint's breaker is open.
    fn is_broken(&self, subscription: &Subscription) -> bool {
        let cell = &subscription.position;
        !cell.is_live() && cell.waits().is_some_and(|waits| waits.breaker)
    }
}
