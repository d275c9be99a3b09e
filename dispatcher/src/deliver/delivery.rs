//! A delivery in hand, and what became of its Subscription since it was matched.

use std::sync::Arc;

use hookwright_core::delivery::health::Waiting;
use hookwright_core::delivery::progress::Progress;
use hookwright_core::nats::delivery_id::{DeliveryId, DeliveryKey};
use tokio::time::Instant;

use crate::config::subscription::Subscription;
use crate::parking::messages::Published;

/// A delivery in hand.
pub(crate) struct Delivery {
    pub(crate) id: DeliveryId,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) published: Arc<Published>,
    pub(crate) progress: Progress,
    /// Whether it counts among the parked deliveries: it was parked before, or is about to be.
    pub(crate) waited: bool,
    /// When its message was received, and validated.
    pub(crate) received: Instant,
    /// The version of the index in which the Subscription was found.
    pub(crate) version: u64,
}

/// What became of a Subscription since a delivery to it was matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is served.
    Served,
    /// Its Producer can't be served now.
    Waits,
    /// Its endpoint has answered 410.
    Disabled,
    /// It was deleted.
    Gone,
}

impl Delivery {
    /// What it counts for once it is parked.
    pub(crate) fn as_waiting(&self) -> Waiting {
        Waiting { deliveries: 1, bytes: i64::try_from(self.published.size()).unwrap_or(i64::MAX) }
    }

    /// What it counts for among the parked deliveries now.
    pub(crate) fn counted(&self) -> Waiting {
        if self.waited { self.as_waiting() } else { Waiting::default() }
    }
}

/// The identity of the delivery of this event to this Subscription.
pub(crate) fn id(subscription: &Subscription, published: &Published) -> DeliveryId {
    let event = &published.event;
    let key = DeliveryKey {
        subscription: &subscription.uid,
        stream: &event.stream,
        stream_created: event.stream_created,
        sequence: event.sequence,
    };
    key.id()
}
