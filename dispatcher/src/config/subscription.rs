//! A Subscription as the dispatcher serves it, with everything that an attempt needs prepared once.

use std::sync::Arc;

use hookwright_core::delivery::policy::DeliveryPolicy;
use hookwright_core::destination::egress::EgressPolicy;
use hookwright_core::event::event_type::EventTypePattern;
use hookwright_core::nats::ids::{ProducerUid, SubscriptionUid};
use hookwright_core::payload::Renderer;
use hookwright_core::position::Flow;
use hookwright_core::select::TypeVersion;
use hookwright_core::select::filter::Filters;
use jiff::Timestamp;

use crate::health::HealthCell;
use crate::http::endpoint::{Endpoint, Origin, Template, Unusable};
use crate::limits::outage::Tenant;
use crate::position::cell::PositionCell;

/// A Subscription that is ready for attempts.
#[derive(Clone)]
pub(crate) struct Subscription {
    pub(crate) uid: SubscriptionUid,
    pub(crate) producer: ProducerUid,
    pub(crate) generation: i64,
    /// The revision of the Subscription's record.
    pub(crate) revision: u64,
    /// `namespace/name`, for logs.
    pub(crate) name: String,
    /// The types of the events that the Subscription gets.
    pub(crate) event_types: Vec<EventTypePattern>,
    /// The types of which it gets only one major version.
    pub(crate) versions: Vec<TypeVersion>,
    /// Which events of these types it gets.
    pub(crate) filters: Arc<Filters>,
    pub(crate) policy: DeliveryPolicy,
    /// Makes the webhooks of events.
    pub(crate) renderer: Arc<Renderer>,
    /// The prepared endpoint, or why there is none.
    pub(crate) endpoint: Result<Endpoint, Unusable>,
    pub(crate) health: Arc<HealthCell>,
    pub(crate) position: Arc<PositionCell>,
    /// The namespace, which all of its Subscriptions share.
    pub(crate) tenant: Arc<Tenant>,
    /// Whether its events are delivered now.
    pub(crate) flow: Flow,
}

impl Subscription {
    /// Whether the Subscription selects events of this type. `major` returns the major version of the event.
    pub(crate) fn selects(&self, event_type: &str, major: impl FnOnce() -> Option<u32>) -> bool {
        if self.event_types.iter().any(|pattern| pattern.matches(event_type)) {
            return true;
        }
        let mut versions = self.versions.iter().filter(|version| version.event_type.matches(event_type)).peekable();
        versions.peek().is_some() && major().is_some_and(|major| versions.any(|version| version.major == major))
    }

    /// What requests are made of and where connections go, or why no attempt can be made.
    pub(crate) fn destination(&self) -> Result<(&Template, &Arc<Origin>), &Unusable> {
        self.endpoint.as_ref()?.destination()
    }

    /// The Subscription under other egress rules, or none if they change nothing.
    pub(crate) fn under(&self, rules: &Arc<EgressPolicy>) -> Option<Self> {
        let endpoint = self.endpoint.as_ref().ok()?.under(rules)?;
        Some(Self { endpoint: Ok(endpoint), ..self.clone() })
    }

    /// Whether events are looked at before they are delivered: the Subscription has filters, or its Producer has some for
    /// it.
    pub(crate) fn is_sifted(&self) -> bool {
        !self.filters.is_empty() || self.renderer.has_filters()
    }

    /// Counts events that it selects, which were passed over because they lack what a filter wants.
    pub(crate) fn passed_over(&self, events: u64, now: Timestamp) -> u64 {
        let Some((entry, ..)) = self.filters.needs() else { return 0 };
        self.health.passed_over(self.generation, now, entry, events);
        events
    }

    pub(crate) fn namespace(&self) -> &str {
        self.name.split_once('/').map_or("", |(namespace, _)| namespace)
    }
}
