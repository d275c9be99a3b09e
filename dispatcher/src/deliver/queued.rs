//! A delivery that waits for its turn: for a permit of its lane, then for one of the dispatcher. The lane comes first, so that
//! the deliveries of a slow endpoint wait among themselves, not in the way of others. There may be thousands, so each is a
//! few words in a queue. With both permits it becomes a task.

use std::sync::Arc;

use hookwright_core::delivery::progress::Progress;
use hookwright_core::event::Event;
use hookwright_core::nats::delivery_id::DeliveryId;
use tokio::time::Instant;
use tracing::{Instrument, debug_span};

use crate::ack::hold::Hold;
use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::{Delivery, Standing, id};
use crate::limits::read_ahead::Places;
use crate::limits::slowness::START_WITHIN;
use crate::limits::{attempts, lane};
use crate::parking::messages::Published;

/// A delivery without any permit yet.
pub(crate) struct Queued {
    pub(crate) deliverer: Arc<Deliverer>,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) published: Arc<Published>,
    pub(crate) event: Arc<Event>,
    /// When its message was received, and validated.
    pub(crate) received: Instant,
    /// The version of the index in which the Subscription was found.
    pub(crate) version: u64,
    /// What was parked, if it was parked before.
    pub(crate) parked: Option<Box<Parked>>,
    /// Its place among what is read ahead, until it starts or leaves; none if it was parked before.
    pub(crate) place: Option<Places>,
    pub(crate) hold: Hold<Permits>,
}

/// The identity and the progress of a delivery that was parked before.
pub(crate) struct Parked {
    pub(crate) id: DeliveryId,
    pub(crate) progress: Progress,
}

/// A delivery with its lane's permit, which waits for the dispatcher's.
pub(crate) struct Admitted {
    queued: Queued,
    lane: lane::Permit<Queued>,
}

/// The right to make an attempt: a permit of the dispatcher, and one of the lane.
pub(crate) struct Permits {
    // First, so that the lane's next delivery finds it free.
    pub(crate) attempt: attempts::Permit<Admitted>,
    pub(crate) lane: lane::Permit<Queued>,
}

impl Queued {
    /// Enters its lane; from here on it goes by itself. A delivery for an endpoint that is gone waits for nothing.
    pub(crate) fn enter(self) {
        let Subscription { uid, generation, .. } = &*self.subscription;
        if self.deliverer.disabled.contains(uid, *generation) {
            return self.put_off(Some(Standing::Disabled));
        }
        self.deliverer.lanes.of(uid).enter(self);
    }

    /// Settles it without an attempt. What became of its Subscription is looked up, unless the caller knows.
    fn put_off(self, standing: Option<Standing>) {
        tokio::spawn(async move {
            let (deliverer, mut delivery, _, hold) = self.in_hand();
            let standing = standing.unwrap_or_else(|| deliverer.standing(&mut delivery));
            deliverer.put_off(delivery, standing).await;
            hold.settled(None);
        });
    }

    fn in_hand(self) -> (Arc<Deliverer>, Delivery, Arc<Event>, Hold<Permits>) {
        let Self { deliverer, subscription, published, event, received, version, parked, place, hold } = self;
        drop(place);
        let waited = parked.is_some();
        let (id, progress) = match parked {
            Some(parked) => (parked.id, parked.progress),
            None => (id(&subscription, &published), Progress::default()),
        };
        let delivery = Delivery { id, subscription, published, progress, waited, received, version };
        (deliverer, delivery, event, hold)
    }
}

impl lane::Waits for Queued {
    fn start(self, permit: lane::Permit<Self>) {
        let attempts = Arc::clone(&self.deliverer.attempts);
        attempts.enter(Admitted { queued: self, lane: permit });
    }

    fn leave(self) {
        self.put_off(None);
    }

    fn lingers(&mut self) {
        if let Some(place) = &mut self.place {
            place.lingers();
        }
    }

    fn received(&self) -> Instant {
        self.received
    }

    fn parked_before(&self) -> bool {
        self.parked.is_some()
    }
}

impl attempts::Waits for Admitted {
    fn start(self, permit: attempts::Permit<Self>) {
        let Self { queued, lane } = self;
        let permits = Permits { attempt: permit, lane };
        // In a task of its own, as the caller is whoever gave the permit back.
        tokio::spawn(async move {
            let (deliverer, delivery, event, hold) = queued.in_hand();
            let attempt = delivery.progress.attempts.saturating_add(1);
            let span = debug_span!("delivery", subscription = delivery.subscription.name, id = %delivery.id, attempt);
            let permits = deliverer.deliver(delivery, event, permits).instrument(span).await;
            hold.settled(permits);
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
