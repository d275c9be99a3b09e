//! Settles a delivery after a failed attempt, or without an attempt.

use std::time::Duration;

use hookwright_core::delivery::backoff::Jitter;
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::decide::{Attempt, Next, deadline, decide};
use hookwright_core::delivery::outcome::{AttemptRecord, Outcome};
use hookwright_core::delivery::parked::ParkedDelivery;
use hookwright_core::delivery::postpone::Postponed;
use hookwright_core::position::Reason;
use hookwright_core::record::VERSION;
use jiff::Timestamp;
use tokio::time::sleep;

use crate::ack::hold::Abandoned;
use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::{Delivery, Origin, Standing, Waited};
use crate::limits::slowness::START_WITHIN;
use crate::parking::store::TooLarge;

/// How many deliveries one counts for that finds no place to wait.
const CROWDED_OUT: usize = 8;

/// When a dedicated reader gets a delivery back that this process had no means to attempt.
const GOES_BACK_AFTER: Duration = Duration::from_secs(1);

/// The cause of a park after a failed attempt, in metrics.
const RETRY: &str = "retry";

/// The detail of a dead letter whose delivery got no last attempt.
const NO_LAST_ATTEMPT: &str = "no attempt was free since the deadline";

/// The detail of a dead letter that is too large to be parked.
pub(crate) const TOO_LARGE: &str =
    "too large to be parked: the event and its headers exceed the NATS server's max_payload";

impl Deliverer {
    /// Settles a delivery that is not attempted now: its lane is full, this dispatcher stops or has lost its lease, the
    /// Subscription is behind or gone. A dedicated reader gets it back.
    pub(crate) async fn put_off(&self, delivery: Delivery, standing: Standing) -> Result<(), Abandoned> {
        match standing {
            Standing::Gone => drop(self.metrics.dropped.inc()),
            _ if delivery.origin == Origin::Dedicated => return Err(Abandoned),
            Standing::Covered => {}
            Standing::Behind(reason) => self.stay_behind(delivery, reason).await,
            Standing::Waits(why) => self.postpone(delivery, why).await,
            Standing::Served => {
                let why = self.unstarted(&delivery);
                let of_lane = matches!(why, Postponed::LaneFull | Postponed::LaneStuck);
                if of_lane && delivery.origin == Origin::Shared && self.is_crowded(&delivery.subscription) {
                    self.stay_behind(delivery, Reason::EndpointSlow).await;
                } else {
                    self.postpone(delivery, why).await;
                }
            }
        }
        Ok(())
    }

    /// Settles a delivery that this process had no means to attempt. A dedicated reader would hand it out again at once, so
    /// it gets it back a little later.
    pub(super) async fn unattempted(&self, delivery: Delivery) -> Result<(), Abandoned> {
        if delivery.origin == Origin::Dedicated {
            self.stop.run_until_cancelled(sleep(GOES_BACK_AFTER)).await;
            return Err(Abandoned);
        }
        self.postpone(delivery, Postponed::Exhausted).await;
        Ok(())
    }

    /// Stores what follows a failed attempt. If the Subscription has gone behind meanwhile, its own reader delivers the
    /// event. While the endpoint is away, what fails of its own reader and of probes is not counted: those events wait on.
    pub(crate) async fn follow(
        &self,
        mut delivery: Delivery,
        started: Timestamp,
        outcome: Outcome,
    ) -> Result<(), Abandoned> {
        let ours = self.is_of_ours(&delivery, &outcome);
        self.unanswered(&delivery, &outcome).await;
        // This failure may have shown it.
        let away = ours || self.is_away(&delivery.subscription).is_some();
        let (cell, event) = (&delivery.subscription.position, &delivery.published.event);
        if delivery.origin == Origin::Shared && cell.covers(event.stream_created, event.sequence) {
            return Ok(());
        }
        let policy = &delivery.subscription.policy.retry;
        let progress = &mut delivery.progress;
        let number = progress.attempts.saturating_add(1);
        let first = *progress.first_attempt.get_or_insert(started);
        progress.deadline = progress.deadline.or_else(|| deadline(policy, first));
        let attempt = Attempt { number, deadline: progress.deadline };
        let next = decide(policy, attempt, outcome, self.clock.now(), Jitter::new(rand::random()));
        if away && matches!(next, Next::Retry { .. } | Next::DeadLetter { .. }) {
            match delivery.origin {
                Origin::Dedicated => return Err(Abandoned),
                _ if ours || progress.probe => {
                    progress.probe = false;
                    self.stay_behind(delivery, Reason::EndpointFailing).await;
                    return Ok(());
                }
                Origin::Due | Origin::Shared => {}
            }
        }
        let (kind, http_status) = (outcome.kind, outcome.http_status);
        progress.failed(AttemptRecord { time: started, outcome: kind, http_status });
        match next {
            // Never the case here: only an attempt that succeeded is done.
            Next::Done => {}
            Next::Retry { at } => self.park(delivery, at, None).await,
            Next::DeadLetter { reason } => {
                let detail = http_status.is_none().then_some(kind.detail());
                self.bury(&delivery, reason, detail).await;
            }
            Next::Disable => self.disable(&delivery).await,
        }
        Ok(())
    }

    /// Counts a delivery that is about to be parked because its lane is full. Returns whether so many were lately that the
    /// Subscription goes behind. Each counts for more if there is no place left to wait.
    fn is_crowded(&self, subscription: &Subscription) -> bool {
        let crowded_out = self.lanes.known(&subscription.uid).is_some_and(|lane| lane.is_crowded_out());
        subscription.position.is_crowded(if crowded_out { CROWDED_OUT } else { 1 })
    }

    /// Why a delivery of a Subscription that is served has not started.
    fn unstarted(&self, delivery: &Delivery) -> Postponed {
        if !self.liveness.is_live() {
            Postponed::LeaseLapsed
        } else if self.stop.is_cancelled() {
            Postponed::Stopping
        } else if delivery.received.elapsed() >= START_WITHIN
            || self.lanes.known(&delivery.subscription.uid).is_some_and(|lane| lane.is_stuck())
        {
            Postponed::LaneStuck
        } else {
            Postponed::LaneFull
        }
    }

    /// Parks a delivery that got no attempt. A park is not an attempt.
    pub(crate) async fn postpone(&self, mut delivery: Delivery, why: Postponed) {
        let (retry, jitter) = (&delivery.subscription.policy.retry, Jitter::new(rand::random()));
        match why.postpone(&mut delivery.progress, Some(retry), self.clock.now(), jitter) {
            Some(at) => self.park(delivery, at, Some(why)).await,
            None => self.bury(&delivery, DeadLetterReason::DeadlineExceeded, Some(NO_LAST_ATTEMPT)).await,
        }
    }

    /// Parks a delivery until `at`, after a failed attempt or because it was postponed. A delivery that was parked
    /// before is parked again, even beyond the quota.
    async fn park(&self, mut delivery: Delivery, at: Timestamp, postponed: Option<Postponed>) {
        let (mut parking, waits) = (None, Waited::with(&delivery.progress));
        if delivery.waited == Waited::No {
            let has_quota = postponed.is_none_or(Postponed::has_quota);
            match self.quota.admit(&delivery.subscription.health, delivery.amount(waits), has_quota).await {
                Ok(admitted) => parking = Some(admitted),
                // Its event stays in the stream. Only what fails while its neighbours succeed is given up.
                Err(used_up) => {
                    let stays = delivery.origin == Origin::Shared && postponed != Some(Postponed::PositionUnreadable);
                    match self.is_away(&delivery.subscription) {
                        Some(reason) if stays => return Box::pin(self.stay_behind(delivery, reason)).await,
                        None if stays && postponed.is_some() => {
                            return Box::pin(self.stay_behind(delivery, Reason::EndpointSlow)).await;
                        }
                        _ => {
                            let reason = DeadLetterReason::RetryQuotaExceeded;
                            return self.bury(&delivery, reason, Some(&used_up.to_string())).await;
                        }
                    }
                }
            }
        } else if delivery.waited != waits {
            delivery.subscription.health.attempted();
        }
        delivery.waited = waits;
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
                self.metrics.parked(postponed.map_or(RETRY, Postponed::name));
                subscription.health.parked(delivery.published.event.published, at);
            }
            Err(TooLarge) => {
                drop(parking);
                self.bury(&delivery, DeadLetterReason::TooLarge, Some(TOO_LARGE)).await;
            }
        }
    }
}
