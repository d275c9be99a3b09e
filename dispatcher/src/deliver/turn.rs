//! A delivery whose turn has come: one attempt, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::delivery::health::LastAttempt;
use hookwright_core::delivery::outcome::{Outcome, OutcomeKind, SHORT_PAUSE};
use hookwright_core::event::Event;
use hookwright_core::payload::NotRendered;
use hookwright_runtime::logging::chain;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::ack::hold::Abandoned;
use crate::deliver::attempt::Attempt;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::{Delivery, Standing, Waited};
use crate::deliver::queued::Permits;
use crate::http::sender::Sent;
use crate::panics;

impl Deliverer {
    /// Attempts the delivery and settles what follows: when this returns, the delivery is done or stored, or goes back to
    /// its dedicated reader. If it is done, its permits are returned. Otherwise they are given back before anything is
    /// stored, because a store may take long.
    #[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice")]
    pub(crate) fn deliver(
        &self,
        mut delivery: Delivery,
        event: Arc<Event>,
        mut permits: Permits,
    ) -> impl Future<Output = Result<Option<Permits>, Abandoned>> {
        async move {
            let webhook = loop {
                // Without its lease this dispatcher may not attempt anything. Other receivers may have the event
                // already, so the delivery is parked; leaving the event unacked would send it to them again.
                let standing = self.standing(&mut delivery);
                if standing != Standing::Served || !self.liveness.is_live() {
                    drop(permits);
                    return Box::pin(self.put_off(delivery, standing)).await.map(|()| None);
                }
                let prepared = self.prepare(&delivery.subscription, &event, &mut permits.attempt).await;
                match prepared {
                    // It may have waited for its turn.
                    Ok(webhook) if self.stands_as_before(&mut delivery) => break webhook,
                    Ok(_) => {}
                    Err(failure) => {
                        drop(permits);
                        Box::pin(self.settle_unprepared(&delivery, failure)).await;
                        return Ok(None);
                    }
                }
            };
            drop(event);
            let Some((started, outcome)) = self.attempt(&delivery, webhook, &mut permits).await else {
                drop(permits);
                return Box::pin(self.unattempted(delivery)).await.map(|()| None);
            };
            permits.attempt.ages();
            if outcome.kind != OutcomeKind::Delivered {
                drop(permits);
                return Box::pin(self.follow(delivery, started, outcome)).await.map(|()| None);
            }
            if delivery.subscription.position.is_disturbed() {
                Box::pin(self.answered(&delivery)).await;
            }
            if delivery.waited != Waited::No {
                delivery.subscription.health.done(delivery.counted());
            }
            Ok(Some(permits))
        }
    }

    /// Makes the attempt and counts it. Returns nothing, and counts nothing, if this process had no means to make it.
    async fn attempt(
        &self,
        delivery: &Delivery,
        webhook: Arc<Event>,
        permits: &mut Permits,
    ) -> Option<(Timestamp, Outcome)> {
        let subscription = &delivery.subscription;
        panics::provoked(&subscription.name);
        let attempt = Attempt { subscription, id: &delivery.id, webhook };
        let (started, clock) = (self.clock.now(), Instant::now());
        let sent = self.send(attempt, started, &mut permits.attempt).await;
        if sent.lacked_means() {
            return None;
        }
        let Sent { outcome, cause } = sent;
        let took = clock.elapsed();
        self.metrics.attempt(outcome.kind, took);
        let pause = outcome.pause(self.clock.now());
        if outcome.is_too_much() || pause.is_some() {
            let pause = pause.and_then(|pause| Duration::try_from(pause.min(SHORT_PAUSE)).ok());
            permits.lane.slow_down(outcome.is_too_much(), pause);
        }
        permits.lane.attempted(outcome.kind, took);
        if outcome.kind.is_of_endpoint() {
            subscription.tenant.attempted(outcome.is_answered());
        }
        // An outage on this side says nothing about the endpoint.
        let turns = !self.is_of_ours(delivery, &outcome)
            && subscription.health.attempt(LastAttempt {
                time: started,
                outcome: outcome.kind,
                http_status: outcome.http_status,
                duration_millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                attempt: delivery.progress.attempts.saturating_add(1),
            });
        let (kind, status) = (outcome.kind.name(), outcome.http_status);
        debug!(outcome = kind, status, "attempt");
        if turns {
            let cause = cause.map_or_else(|| outcome.kind.detail().to_owned(), |cause| chain(&*cause));
            warn!(subscription = subscription.name, outcome = kind, status, cause, "deliveries to an endpoint fail");
        }
        Some((started, outcome))
    }

    /// Settles a delivery of which there is no attempt: it is forbidden, or its webhook can't be made. That is before the
    /// request, so no endpoint is to blame.
    async fn settle_unprepared(&self, delivery: &Delivery, failure: NotRendered) {
        match failure {
            NotRendered::Forbidden(forbidden) => {
                self.drop_forbidden(&delivery.subscription, forbidden, delivery.counted())
            }
            NotRendered::Failed(failure) => self.bury_unrendered(delivery, &failure).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::queued::Queued;

    fn attempted<'a, F: Future>(_: fn(&'a Deliverer, Delivery, Arc<Event>, Permits) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_delivery_is_small() {
        let (waiting, under_way) = (size_of::<Queued>(), attempted(Deliverer::deliver));
        assert!(waiting <= 104 && under_way <= 1416, "{waiting} and {under_way} bytes");
    }
}
