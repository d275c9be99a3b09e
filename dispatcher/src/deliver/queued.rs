//! A delivery that waits for its turn, first for a permit of its lane, then for one of the dispatcher. The lane comes
//! first, so that the deliveries of a slow endpoint wait among themselves and not in the way of others. Thousands may
//! wait, so each is a few words in a queue. With both permits a delivery becomes a task.

use std::sync::Arc;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::postpone::Postponed;
use hookwright_core::delivery::progress::Progress;
use hookwright_core::event::Event;
use hookwright_core::nats::delivery_id::DeliveryId;
use hookwright_core::position::{Gone, Reason};
use tokio::time::Instant;
use tracing::Instrument;

use crate::ack::hold::{Abandoned, Hold};
use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::{Delivery, Origin, Standing, Waited, id};
use crate::deliver::spare::Spare;
use crate::limits::lane::Lane;
use crate::limits::read_ahead::Places;
use crate::limits::slowness::START_WITHIN;
use crate::limits::turns::{InTurn, Turn};
use crate::limits::{attempts, lane};
use crate::parking::messages::Published;
use crate::position::positions::Unreadable;

/// A delivery that has no permit yet.
pub(crate) struct Queued {
    pub(crate) deliverer: Arc<Deliverer>,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) published: Arc<Published>,
    pub(crate) event: Arc<Event>,
    /// When the message was received or, for a new event, had been validated and found room.
    pub(crate) received: Instant,
    /// The version of the index in which the Subscription was found.
    pub(crate) version: u64,
    /// The parked state, if the delivery was parked before.
    pub(crate) parked: Option<Box<Parked>>,
    /// The delivery's place among those that are read ahead, until it starts or leaves; `None` if it was parked before.
    pub(crate) place: Option<Places>,
    pub(crate) hold: Hold<Permits>,
}

/// The identity and the progress of a delivery that was parked before.
pub(crate) struct Parked {
    pub(crate) id: DeliveryId,
    pub(crate) progress: Progress,
}

/// A delivery that has its lane's permit and waits for one of the dispatcher.
pub(crate) struct Admitted {
    queued: Queued,
    lane: lane::Permit<Queued>,
}

/// The right to make an attempt: a permit of the dispatcher and one of the lane.
pub(crate) struct Permits {
    // Dropped before `lane`, so that the lane's next delivery finds it free.
    pub(crate) attempt: attempts::Permit<Admitted>,
    pub(crate) lane: lane::Permit<Queued>,
}

impl Queued {
    /// Enters the delivery's lane, which starts it or has it leave. A delivery that must not be attempted now does not
    /// wait.
    pub(crate) fn enter(self) {
        let probe = self.parked.as_ref().is_some_and(|parked| parked.progress.probe);
        match self.deliverer.flow(&self.subscription, &self.published, self.origin(), probe) {
            Standing::Served => self.lane().enter(self),
            Standing::Covered => self.hold.settled(None),
            _ => lane::Waits::leave(self),
        }
    }

    /// The delivery, unless its Subscription's position covers the event, so that its dedicated reader comes to it: then it
    /// is settled.
    pub(crate) fn unless_covered(self) -> Option<Self> {
        let standing = self.deliverer.flow(&self.subscription, &self.published, self.origin(), false);
        if standing == Standing::Covered {
            self.hold.settled(None);
            return None;
        }
        Some(self)
    }

    /// The delivery, unless its event can stay in the stream for the Subscription's own reader: then it is settled.
    pub(crate) async fn unless_left_behind(self, reason: Reason) -> Option<Self> {
        // A Subscription that was edited or deleted since the match is looked at again where its filters are evaluated.
        if self.deliverer.index.version() != self.version {
            return Some(self);
        }
        let place = (self.published.event.stream_created, self.published.event.sequence);
        let (positions, cell) = (&self.deliverer.positions, &self.subscription.position);
        match positions.go_behind(cell, place, self.deliverer.clock.now(), reason).await {
            Ok(Gone::Covered | Gone::Behind) => {
                self.hold.settled(None);
                None
            }
            Ok(Gone::Park) | Err(Unreadable) => Some(self),
        }
    }

    /// Gives the delivery up, as it can't be known whether its Subscription wants the event. If the event can stay in the
    /// stream for the Subscription, it does; it is not parked, as what is parked is sent without a look at filters.
    pub(crate) fn give_up(self, reason: DeadLetterReason) {
        tokio::spawn(async move {
            let (deliverer, mut delivery, _, hold) = self.in_hand();
            let standing = deliverer.standing(&mut delivery);
            let stays = match standing {
                Standing::Behind(why) => deliverer.stays_in_stream(&delivery, why).await,
                _ => false,
            };
            let ended = match standing {
                Standing::Gone | Standing::Covered => deliverer.put_off(delivery, standing).await,
                // A record that can't be read may have other filters.
                Standing::Waits(Postponed::ProducerBarred) => Err(Abandoned),
                _ if stays => Ok(()),
                _ => {
                    deliverer.bury(&delivery, reason, None).await;
                    Ok(())
                }
            };
            hold.ended(ended.map(|()| None));
        });
    }

    fn lane(&self) -> Arc<Lane<Self>> {
        self.deliverer.lanes.of(&self.subscription.uid, &self.subscription.tenant)
    }

    fn origin(&self) -> Origin {
        if self.parked.is_some() {
            Origin::Due
        } else if self.hold.is_of_reader() {
            Origin::Dedicated
        } else {
            Origin::Shared
        }
    }

    fn in_hand(self) -> (Arc<Deliverer>, Delivery, Arc<Event>, Hold<Permits>) {
        let origin = self.origin();
        let Self { deliverer, subscription, published, event, received, version, parked, place, hold } = self;
        drop(place);
        let waited = parked.as_ref().map_or(Waited::No, |parked| Waited::with(&parked.progress));
        let (id, progress) = match parked {
            Some(parked) => (parked.id, parked.progress),
            None => (id(&subscription, &published), Progress::default()),
        };
        let delivery = Delivery { id, subscription, published, progress, waited, origin, received, version };
        (deliverer, delivery, event, hold)
    }
}

impl lane::Waits for Queued {
    fn start(self, permit: lane::Permit<Self>) {
        let attempts = Arc::clone(&self.deliverer.attempts);
        attempts.enter(Admitted { queued: self, lane: permit });
    }

    fn leave(self) {
        tokio::spawn(async move {
            let (deliverer, mut delivery, _, hold) = self.in_hand();
            let (spare, span) = (Spare::of(&delivery), delivery.span());
            let put_off = async {
                let standing = deliverer.standing(&mut delivery);
                deliverer.put_off(delivery, standing).await.map(|()| None)
            };
            hold.ended(deliverer.survive(spare, put_off.instrument(span)).await);
        });
    }

    fn lingers(&mut self) -> bool {
        if let Some(place) = &mut self.place {
            place.lingers();
        }
        self.place.is_some()
    }

    fn received(&self) -> Instant {
        self.received
    }

    fn parked_before(&self) -> bool {
        self.parked.is_some()
    }

    fn size(&self) -> usize {
        self.published.body.len()
    }
}

impl InTurn for Admitted {
    fn turn(&self) -> (usize, &Turn) {
        self.lane.turn()
    }
}

impl attempts::Waits for Admitted {
    fn start(self, permit: attempts::Permit<Self>) {
        let Self { queued, lane } = self;
        let permits = Permits { attempt: permit, lane };
        // Runs in a task of its own, because the caller is some other delivery that gave its permit back.
        tokio::spawn(async move {
            let (deliverer, delivery, event, hold) = queued.in_hand();
            if hold.is_forsaken() {
                return;
            }
            let (spare, span) = (Spare::of(&delivery), delivery.span());
            let ended = deliverer.survive(spare, deliverer.deliver(delivery, event, permits).instrument(span)).await;
            hold.ended(ended);
        });
    }

    fn leave(self) {
        drop(self.lane);
        lane::Waits::leave(self.queued);
    }

    fn until(&self) -> Instant {
        self.queued.received + START_WITHIN
    }
}
