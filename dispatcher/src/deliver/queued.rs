//! A delivery that waits for its turn: for a slot of its lane, then for one of the dispatcher. The lane's comes first:
//! deliveries of a slow endpoint wait among themselves, not in the way of others. There may be thousands, so each is a few
//! words in a queue; with both slots it becomes a task.

use std::sync::Arc;

use hookwright_core::delivery::id::{DeliveryId, DeliveryKey};
use hookwright_core::delivery::parked::Progress;
use hookwright_core::event::Event;
use tokio::time::Instant;

use crate::ack::hold::Hold;
use crate::config::subscription::Subscription;
use crate::deliver::attempt::{Deliverer, Delivery, Slot};
use crate::intake::read_ahead::Queued;
use crate::limits::{attempts, lane};
use crate::parking::messages::Published;

/// It has no slot yet.
pub(crate) struct Pending {
    pub(crate) deliverer: Arc<Deliverer>,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) published: Arc<Published>,
    pub(crate) event: Arc<Event>,
    /// When its message was received, and validated.
    pub(crate) received: Instant,
    /// Of the index, when the subscription was found there.
    pub(crate) version: u64,
    /// What it is, if it was parked before.
    pub(crate) parked: Option<Box<Parked>>,
    /// Counts until it starts or leaves; none if it was parked before.
    pub(crate) queued: Option<Queued>,
    pub(crate) hold: Hold,
}

/// Of a delivery that comes again.
pub(crate) struct Parked {
    pub(crate) id: DeliveryId,
    pub(crate) progress: Progress,
}

/// It has its lane's slot, and waits for the dispatcher's.
pub(crate) struct Turn {
    pending: Pending,
    lane: lane::Slot<Pending>,
}

impl Pending {
    /// From here on it goes by itself. One for an endpoint that is gone waits for nothing.
    pub(crate) fn enter(self) {
        if self.deliverer.disabled.contains(&self.subscription) {
            return lane::Waits::leave(self);
        }
        let lane = Arc::clone(&self.subscription.lane);
        lane.enter(self);
    }

    fn in_hand(self) -> (Arc<Deliverer>, Delivery, Arc<Event>, Hold) {
        let Self { deliverer, subscription, published, event, received, version, parked, queued, hold } = self;
        drop(queued);
        let waited = parked.is_some();
        let (id, progress) = match parked {
            Some(parked) => (parked.id, parked.progress),
            None => (id(&subscription, &published), Progress::default()),
        };
        let delivery = Delivery { id, subscription, published, progress, waited, received, version };
        (deliverer, delivery, event, hold)
    }
}

fn id(subscription: &Subscription, published: &Published) -> DeliveryId {
    let event = &published.event;
    let key = DeliveryKey {
        subscription: &subscription.uid,
        stream: &event.stream,
        stream_created: event.stream_created,
        sequence: event.sequence,
    };
    key.id()
}

impl lane::Waits for Pending {
    fn start(self, slot: lane::Slot<Self>) {
        let slots = Arc::clone(&self.deliverer.slots);
        slots.enter(Turn { pending: self, lane: slot });
    }

    fn leave(self) {
        tokio::spawn(async move {
            let (deliverer, delivery, _, hold) = self.in_hand();
            deliverer.put_off(delivery).await;
            hold.settled(None);
        });
    }

    fn lingers(&mut self) {
        if let Some(queued) = &mut self.queued {
            queued.lingers();
        }
    }

    fn received(&self) -> Instant {
        self.received
    }

    fn parked_before(&self) -> bool {
        self.parked.is_some()
    }
}

impl attempts::Waits for Turn {
    fn start(self, slot: attempts::Slot<Self>) {
        let Self { pending, lane } = self;
        let slot = Slot { dispatcher: slot, _lane: lane };
        // Whoever gave the slot back does no work of ours.
        tokio::spawn(async move {
            let (deliverer, delivery, event, hold) = pending.in_hand();
            let slot = deliverer.deliver(delivery, event, slot).await;
            hold.settled(slot);
        });
    }

    fn leave(self) {
        drop(self.lane);
        lane::Waits::leave(self.pending);
    }

    fn until(&self) -> Instant {
        self.pending.received + lane::START_WITHIN
    }
}
