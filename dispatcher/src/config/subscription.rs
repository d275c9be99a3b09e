//! A Subscription as the dispatcher serves it: everything that an attempt needs, prepared once.

use std::sync::Arc;

use hookwright_core::delivery::policy::DeliveryPolicy;
use hookwright_core::nats::ids::{ProducerUid, SubscriptionUid};
use hookwright_core::select::Selection;

use crate::health::HealthCell;
use crate::http::endpoint::{Endpoint, Unusable};

/// A Subscription, ready to be attempted.
pub(crate) struct Subscription {
    pub(crate) uid: SubscriptionUid,
    pub(crate) producer: ProducerUid,
    pub(crate) generation: i64,
    /// The revision of its record.
    pub(crate) revision: u64,
    /// `namespace/name`, for logs.
    pub(crate) name: String,
    /// Which events it gets.
    pub(crate) select: Selection,
    pub(crate) policy: DeliveryPolicy,
    /// What an attempt needs, or why none can be made.
    pub(crate) endpoint: Result<Endpoint, Unusable>,
    pub(crate) health: Arc<HealthCell>,
}
