//! A delivery that is worked on, and how its Subscription stands.

use std::sync::Arc;

use hookwright_core::delivery::health::Waiting;
use hookwright_core::delivery::postpone::Postponed;
use hookwright_core::delivery::progress::Progress;
use hookwright_core::nats::delivery_id::{DeliveryId, DeliveryKey};
use hookwright_core::position::Reason;
use tokio::time::Instant;
use tracing::{Span, debug_span};

use crate::config::subscription::Subscription;
use crate::parking::messages::Published;

/// A delivery that is worked on.
pub(crate) struct Delivery {
    pub(crate) id: DeliveryId,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) published: Arc<Published>,
    pub(crate) progress: Progress,
    /// How the delivery counts among the parked deliveries.
    pub(crate) waited: Waited,
    /// Where the delivery came from.
    pub(crate) origin: Origin,
    /// When the message was received or, for a new event, had been validated and found room.
    pub(crate) received: Instant,
    /// The version of the index in which the Subscription was found.
    pub(crate) version: u64,
}

/// How a delivery counts among the parked deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Not at all: it was never parked.
    No,
    /// It was parked, or is about to be, without an attempt.
    Unattempted,
    /// It was parked, or is about to be, after a failed attempt.
    Failed,
}

impl Waited {
    /// How a delivery counts that is parked with this progress.
    pub(crate) fn with(progress: &Progress) -> Self {
        if progress.attempts == 0 { Self::Unattempted } else { Self::Failed }
    }
}

/// Where a delivery came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The reader that all Subscriptions of a Producer share.
    Shared,
    /// The parked deliveries that are due.
    Due,
    /// The Subscription's own reader. A delivery that is not attempted goes back to it.
    Dedicated,
}

/// How a Subscription stands now, after a delivery was matched to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The Subscription is served.
    Served,
    /// The Subscription can't be served now, for this reason.
    Waits(Postponed),
    /// The dedicated reader delivers the event.
    Covered,
    /// Nothing may be delivered to the Subscription now, for this reason.
    Behind(Reason),
    /// The Subscription was deleted.
    Gone,
}

impl Delivery {
    /// The amount that the delivery counts for if it counts in this way.
    pub(crate) fn amount(&self, waited: Waited) -> Waiting {
        if waited == Waited::No {
            return Waiting::default();
        }
        let bytes = i64::try_from(self.published.size()).unwrap_or(i64::MAX);
        Waiting { deliveries: 1, bytes, unattempted: i64::from(waited == Waited::Unattempted) }
    }

    /// The span of the delivery's next attempt, or of what becomes of it without one, at debug level.
    pub(crate) fn span(&self) -> Span {
        let attempt = self.progress.attempts.saturating_add(1);
        debug_span!("delivery", subscription = self.subscription.name, id = %self.id, attempt)
    }

    /// The amount that the delivery counts for among the parked deliveries now.
    pub(crate) fn counted(&self) -> Waiting {
        self.amount(self.waited)
    }
}

/// The id of the delivery of this event to this Subscription.
pub(crate) fn id(subscription: &Subscription, published: &Published) -> DeliveryId {
    let event = &published.event;
    let key = DeliveryKey {
        subscription: &subscription.uid,
        stream: &event.stream,
        stream_created: event.stream_created,
        sequence: event.sequence,
        stored: event.published,
    };
    key.id()
}
