//! A spare copy of a delivery, from which the delivery is settled if work on it panics.

use std::sync::Arc;

use hookwright_core::delivery::progress::Progress;
use hookwright_core::nats::delivery_id::DeliveryId;
use tokio::time::Instant;

use crate::config::subscription::Subscription;
use crate::deliver::delivery::{Delivery, Origin, Waited, id};
use crate::parking::messages::Published;

/// A copy of a delivery, kept while work on the delivery goes on. To copy one that was never parked allocates nothing.
pub(crate) struct Spare {
    subscription: Arc<Subscription>,
    published: Arc<Published>,
    parked: Option<(DeliveryId, Progress)>,
    origin: Origin,
    received: Instant,
    version: u64,
}

impl Spare {
    pub(crate) fn of(delivery: &Delivery) -> Self {
        Self {
            subscription: Arc::clone(&delivery.subscription),
            published: Arc::clone(&delivery.published),
            parked: (delivery.waited != Waited::No).then(|| (delivery.id.clone(), delivery.progress.clone())),
            origin: delivery.origin,
            received: delivery.received,
            version: delivery.version,
        }
    }

    /// The delivery again.
    pub(crate) fn delivery(self) -> Delivery {
        let Self { subscription, published, parked, origin, received, version } = self;
        let waited = parked.as_ref().map_or(Waited::No, |(_, progress)| Waited::with(progress));
        let (id, progress) = parked.unwrap_or_else(|| (id(&subscription, &published), Progress::default()));
        Delivery { id, subscription, published, progress, waited, origin, received, version }
    }
}
