//! One delivery that has its turn: an attempt, and what follows from it.

use std::sync::Arc;

use hookwright_core::delivery::backoff::{Jitter, lane_full_delay};
use hookwright_core::delivery::decide::{Attempt, DeadLetterReason, Next, deadline, decide, is_out_of_chances};
use hookwright_core::delivery::health::{LastAttempt, Waiting};
use hookwright_core::delivery::id::DeliveryId;
use hookwright_core::delivery::outcome::{AttemptRecord, Outcome, OutcomeKind};
use hookwright_core::delivery::parked::{DeadLetter, ParkedDelivery, Progress};
use hookwright_core::delivery::policy::DeadLetterPolicy;
use hookwright_core::event::Event;
use hookwright_core::record::VERSION;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::clock::Clock;
use crate::config::disabled::DisabledSet;
use crate::config::index::{Index, Lookup};
use crate::config::subscription::{Subscription, Unusable};
use crate::deliver::queued::{Pending, Turn};
use crate::http::request;
use crate::http::sender::Sender;
use crate::limits::attempts::{self, Slots};
use crate::limits::lane::{self, START_WITHIN};
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::parking::messages::Published;
use crate::parking::quota::Quota;
use crate::parking::store::{Store, TooLarge};
use crate::validate::schema_violations::ViolationCounts;
use crate::validate::validator::Validator;

/// Behind an endpoint that hangs, the waits begin as if after this many parks (16 s): each park is work for NATS.
const STUCK_PARKS: u32 = 4;

/// Why a delivery got no last attempt.
const NO_PLACE: &str = "no place for an attempt was free since the deadline";

/// A delivery in hand.
pub(crate) struct Delivery {
    pub(crate) id: DeliveryId,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) published: Arc<Published>,
    pub(crate) progress: Progress,
    /// Whether it counts among what waits: it comes from the parked ones, or is about to join them.
    pub(crate) waited: bool,
    /// When its message was received, and validated.
    pub(crate) received: Instant,
    /// Of the index, when the subscription was found there.
    pub(crate) version: u64,
}

impl Delivery {
    /// What it is among what waits.
    fn as_waiting(&self) -> Waiting {
        Waiting { deliveries: 1, bytes: i64::try_from(self.published.size()).unwrap_or(i64::MAX) }
    }

    /// What it is counted for among what waits.
    fn counted(&self) -> Waiting {
        if self.waited { self.as_waiting() } else { Waiting::default() }
    }
}

/// What all deliveries share.
pub(crate) struct Deliverer {
    pub(crate) index: Arc<Index>,
    pub(crate) disabled: Arc<DisabledSet>,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) sender: Sender,
    pub(crate) store: Store,
    pub(crate) quota: Quota,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) validator: Validator,
    pub(crate) violations: Arc<ViolationCounts>,
    pub(crate) slots: Arc<Slots<Turn>>,
    /// Once cancelled, no event waits for room any more.
    pub(crate) stop: CancellationToken,
}

/// The right to make an attempt: a slot of the lane, and one of the dispatcher.
pub(crate) struct Slot {
    // First, so that the lane's next one finds it free.
    pub(crate) dispatcher: attempts::Slot<Turn>,
    pub(crate) _lane: lane::Slot<Pending>,
}

/// What became of a subscription since a delivery of it was matched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Served,
    /// Its producer can't be served now.
    Waits,
    Gone,
}

impl Deliverer {
    /// Attempts the delivery and settles what follows: when this returns, it is done or stored. If it is done, its slot
    /// comes back; else it is given back before anything is stored: a store may take long.
    #[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice")]
    pub(crate) fn deliver(
        &self,
        mut delivery: Delivery,
        event: Arc<Event>,
        mut slot: Slot,
    ) -> impl Future<Output = Option<Slot>> {
        async move {
            // Without its lease it is not for this dispatcher to attempt now. Its event may be done with others already: it
            // is not sent again.
            let served = self.refresh(&mut delivery) == Standing::Served && self.liveness.is_live();
            if !served || self.disabled.contains(&delivery.subscription) {
                drop(slot);
                Box::pin(self.put_off(delivery)).await;
                return None;
            }
            let (started, outcome) = self.attempt(&delivery, event, &mut slot.dispatcher).await;
            slot.dispatcher.ages();
            if outcome.kind != OutcomeKind::Delivered {
                drop(slot);
                Box::pin(self.follow(delivery, started, outcome)).await;
                return None;
            }
            if delivery.waited {
                delivery.subscription.health.done(delivery.counted());
            }
            Some(slot)
        }
    }

    /// Settles a delivery that is not attempted now: the lane is full, the dispatcher stops or has lost its lease, the
    /// endpoint or the subscription is gone.
    pub(crate) async fn put_off(&self, mut delivery: Delivery) {
        if self.refresh(&mut delivery) == Standing::Gone {
            self.metrics.dropped.inc();
        } else if self.disabled.contains(&delivery.subscription) {
            self.bury(&delivery, DeadLetterReason::EndpointGone, None).await;
        } else {
            self.park_unstarted(delivery).await;
        }
    }

    /// Takes the subscription as it is now: an edit or a deletion since the match counts.
    fn refresh(&self, delivery: &mut Delivery) -> Standing {
        let version = self.index.version();
        if version == delivery.version {
            return Standing::Served;
        }
        match self.index.lookup(&delivery.subscription.uid) {
            Lookup::Serving(current, _) => (delivery.subscription, delivery.version) = (current, version),
            Lookup::Waiting => return Standing::Waits,
            Lookup::Absent { .. } => return Standing::Gone,
        }
        Standing::Served
    }

    async fn attempt(
        &self,
        delivery: &Delivery,
        event: Arc<Event>,
        slot: &mut attempts::Slot<Turn>,
    ) -> (Timestamp, Outcome) {
        let subscription = &delivery.subscription;
        let (started, clock) = (self.clock.now(), Instant::now());
        let outcome = self.send(subscription, event, &delivery.id, started, slot).await;
        let took = clock.elapsed();
        self.metrics.attempt(outcome.kind, took);
        subscription.lane.attempted(outcome.kind);
        subscription.health.attempt(LastAttempt {
            time: started,
            outcome: outcome.kind,
            http_status: outcome.http_status,
            duration_millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            attempt: delivery.progress.attempts.saturating_add(1),
        });
        debug!(subscription = subscription.name, id = %delivery.id, outcome = outcome.kind.name(), "attempt");
        (started, outcome)
    }

    /// One request, signed as of `now`; it is counted nowhere yet.
    pub(crate) async fn send(
        &self,
        subscription: &Subscription,
        event: Arc<Event>,
        id: &DeliveryId,
        now: Timestamp,
        slot: &mut attempts::Slot<Turn>,
    ) -> Outcome {
        let endpoint = match &subscription.endpoint {
            Ok(endpoint) => endpoint,
            Err(Unusable::Blocked(_)) => return Outcome::without_response(OutcomeKind::Blocked),
            Err(Unusable::Unsignable) => return Outcome::without_response(OutcomeKind::Unsignable),
        };
        let Some(request) = request::build(endpoint, event, id, now) else {
            return Outcome::without_response(OutcomeKind::Unsignable);
        };
        let timeout = subscription.policy.timeout.duration();
        self.sender.send(request, timeout, &self.clock, || slot.ages()).await
    }

    /// What follows an attempt that failed.
    async fn follow(&self, mut delivery: Delivery, started: Timestamp, outcome: Outcome) {
        let policy = &delivery.subscription.policy.retry;
        let progress = &mut delivery.progress;
        let number = progress.attempts.saturating_add(1);
        let first = *progress.first_attempt.get_or_insert(started);
        progress.deadline = progress.deadline.or_else(|| deadline(policy, first));
        let attempt = Attempt { number, deadline: progress.deadline };
        let next = decide(policy, attempt, outcome, self.clock.now(), Jitter::new(rand::random()));
        let (kind, http_status) = (outcome.kind, outcome.http_status);
        progress.failed(AttemptRecord { time: started, outcome: kind, http_status });
        match next {
            // Of attempts that did not fail only.
            Next::Done => {}
            Next::Retry { at } => self.park(delivery, at, "retry").await,
            Next::DeadLetter { reason } => self.bury(&delivery, reason, None).await,
            Next::Disable => self.disable(&delivery).await,
        }
    }

    /// A park is not an attempt.
    async fn park_unstarted(&self, mut delivery: Delivery) {
        let now = self.clock.now();
        if is_out_of_chances(&delivery.progress, now) {
            return self.bury(&delivery, DeadLetterReason::DeadlineExceeded, Some(NO_PLACE)).await;
        }
        let stuck = delivery.subscription.lane.is_stuck() || delivery.received.elapsed() >= START_WITHIN;
        let parks = if stuck { delivery.progress.parks.max(STUCK_PARKS) } else { delivery.progress.parks };
        let wait = lane_full_delay(parks, Jitter::new(rand::random()));
        delivery.progress.parks = parks.saturating_add(1);
        // What never gets its turn has a deadline, too.
        let retry = &delivery.subscription.policy.retry;
        delivery.progress.deadline = delivery.progress.deadline.or_else(|| deadline(retry, now));
        self.park(delivery, now.checked_add(wait).unwrap_or(now), "lane").await;
    }

    /// One that waited before goes on waiting, whatever the quota.
    async fn park(&self, mut delivery: Delivery, at: Timestamp, why: &'static str) {
        let mut parking = None;
        if !delivery.waited {
            match self.quota.admit(&delivery.subscription.health, delivery.as_waiting()).await {
                Ok(admitted) => parking = Some(admitted),
                Err(used_up) => {
                    let reason = DeadLetterReason::RetryQuotaExceeded;
                    return self.bury(&delivery, reason, Some(&used_up.to_string())).await;
                }
            }
            delivery.waited = true;
        }
        let subscription = &delivery.subscription;
        let parked = ParkedDelivery {
            version: VERSION,
            subscription: subscription.uid.clone(),
            producer: subscription.producer.clone(),
            id: delivery.id.clone(),
            revision: subscription.revision,
            event: delivery.published.event.clone(),
            progress: delivery.progress.clone(),
        };
        match self.store.park(&parked, &delivery.published, at).await {
            Ok(()) => {
                if let Some(parking) = parking {
                    parking.stored();
                }
                self.metrics.parked(why);
                subscription.health.parked(delivery.published.event.published, at);
            }
            Err(TooLarge) => {
                drop(parking);
                let detail = "too large to be parked: the event and its headers exceed the NATS server's max_payload";
                self.bury(&delivery, DeadLetterReason::TooLarge, Some(detail)).await;
            }
        }
    }

    async fn bury(&self, delivery: &Delivery, reason: DeadLetterReason, detail: Option<&str>) {
        let subscription = &delivery.subscription;
        if subscription.policy.dead_letter == DeadLetterPolicy::Keep {
            let letter = DeadLetter {
                version: VERSION,
                reason,
                detail: detail.map(str::to_owned),
                time: self.clock.now(),
                producer: subscription.producer.clone(),
                subscription: Some(subscription.uid.clone()),
                id: Some(delivery.id.clone()),
                event: delivery.published.event.clone(),
                progress: delivery.progress.clone(),
                reference_only: false,
            };
            self.store.bury(letter, &delivery.published).await;
        }
        info!(subscription = subscription.name, id = %delivery.id, reason = reason.name(), "dead letter");
        self.metrics.dead_letter(reason);
        subscription.health.gave_up(self.clock.now(), delivery.counted(), &delivery.progress);
    }

    /// The endpoint is gone: at once for this dispatcher, and by KV for all.
    async fn disable(&self, delivery: &Delivery) {
        let subscription = &delivery.subscription;
        if self.disabled.insert(&subscription.uid, subscription.generation) {
            info!(subscription = subscription.name, "disabled: the endpoint answered 410");
            self.store.disable(&subscription.uid, subscription.generation, self.clock.now()).await;
        }
        self.bury(delivery, DeadLetterReason::EndpointGone, None).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempted<'a, F: Future>(_: fn(&'a Deliverer, Delivery, Arc<Event>, Slot) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_delivery_is_small() {
        let (waiting, under_way) = (size_of::<Pending>(), attempted(Deliverer::deliver));
        assert!(waiting <= 104 && under_way <= 1152, "{waiting} and {under_way} bytes");
    }
}
