//! Settles a delivery after a failed attempt, or without an attempt.

use hookwright_core::delivery::backoff::{Jitter, lane_full_delay};
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::decide::{Attempt, Next, deadline, decide, is_out_of_chances};
use hookwright_core::delivery::outcome::{AttemptRecord, Outcome};
use hookwright_core::delivery::parked::ParkedDelivery;
use hookwright_core::record::VERSION;
use jiff::Timestamp;

use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::{Delivery, Standing};
use crate::limits::slowness::START_WITHIN;
use crate::parking::store::TooLarge;

/// If the endpoint hangs, the first wait is as long as after this many parks (16 s), because each park is work for
/// NATS.
const STUCK_PARKS: u32 = 4;

/// The detail of a dead letter whose delivery got no last attempt.
const NO_LAST_ATTEMPT: &str = "no attempt was free since the deadline";

impl Deliverer {
    /// Settles a delivery that is not attempted now: its lane is full, this dispatcher stops or has lost its lease, or
    /// the endpoint or the Subscription is gone.
    pub(crate) async fn put_off(&self, delivery: Delivery, standing: Standing) {
        match standing {
            Standing::Gone => drop(self.metrics.dropped.inc()),
            Standing::Disabled => self.bury(&delivery, DeadLetterReason::EndpointGone, None).await,
            Standing::Served | Standing::Waits => self.park_unstarted(delivery).await,
        }
    }

    /// Stores what follows a failed attempt.
    pub(crate) async fn follow(&self, mut delivery: Delivery, started: Timestamp, outcome: Outcome) {
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
            // Never the case here: only an attempt that succeeded is done.
            Next::Done => {}
            Next::Retry { at } => self.park(delivery, at, "retry").await,
            Next::DeadLetter { reason } => self.bury(&delivery, reason, None).await,
            Next::Disable => self.disable(&delivery).await,
        }
    }

    /// Parks a delivery that got no attempt. A park is not an attempt.
    async fn park_unstarted(&self, mut delivery: Delivery) {
        let now = self.clock.now();
        if is_out_of_chances(&delivery.progress, now) {
            return self.bury(&delivery, DeadLetterReason::DeadlineExceeded, Some(NO_LAST_ATTEMPT)).await;
        }
        let lane = self.lanes.of(&delivery.subscription.uid);
        let stuck = lane.is_stuck() || delivery.received.elapsed() >= START_WITHIN;
        let parks = if stuck { delivery.progress.parks.max(STUCK_PARKS) } else { delivery.progress.parks };
        let wait = lane_full_delay(parks, Jitter::new(rand::random()));
        delivery.progress.parks = parks.saturating_add(1);
        // A delivery that never gets its turn has a deadline, too.
        let retry = &delivery.subscription.policy.retry;
        delivery.progress.deadline = delivery.progress.deadline.or_else(|| deadline(retry, now));
        self.park(delivery, now.checked_add(wait).unwrap_or(now), "lane").await;
    }

    /// Parks a delivery until `at`. A delivery that was parked before is parked again, even beyond the quota.
    pub(super) async fn park(&self, mut delivery: Delivery, at: Timestamp, why: &'static str) {
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
}
