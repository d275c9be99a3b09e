//! The parts that all deliveries share.

use std::sync::Arc;

use hookwright_core::delivery::postpone::Postponed;
use hookwright_core::nats::ids::{ProducerUid, SubscriptionUid};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::disabled::DisabledSet;
use crate::config::index::{Index, Lookup};
use crate::deliver::delivery::{Delivery, Standing};
use crate::deliver::queued::{Admitted, Queued};
use crate::http::sender::Sender;
use crate::limits::attempts::Attempts;
use crate::limits::budget::Budget;
use crate::limits::lane::Lanes;
use crate::limits::outage::Tenants;
use crate::limits::shares::Room;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::parking::dead_letter_budget::DeadLetterBudget;
use crate::parking::quota::Quota;
use crate::parking::store::Store;
use crate::position::positions::Positions;
use crate::validate::fair_queue::FairQueue;
use crate::validate::schema_violations::ViolationCounts;
use crate::validate::validator::Validator;

/// The parts that all deliveries share.
pub(crate) struct Deliverer {
    pub(crate) index: Arc<Index>,
    pub(crate) disabled: Arc<DisabledSet>,
    pub(crate) positions: Arc<Positions>,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) sender: Sender,
    pub(crate) store: Store,
    pub(crate) quota: Quota,
    pub(crate) dead_letters: Arc<DeadLetterBudget>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) validator: Validator,
    /// The turns of the filters of an event that may take long. Events don't wait there for long, so the Producer is read on
    /// meanwhile, other than while events wait for validations.
    pub(crate) sifting: Arc<FairQueue<ProducerUid>>,
    /// The turns of filters and templates of a single Subscription that may take long.
    pub(crate) programs: Arc<FairQueue<SubscriptionUid>>,
    pub(crate) violations: Arc<ViolationCounts>,
    pub(crate) lanes: Arc<Lanes<Queued>>,
    pub(crate) attempts: Arc<Attempts<Admitted>>,
    /// The slots of attempts under way.
    pub(crate) slots: Arc<Room>,
    /// The budget of due deliveries, of which a namespace may hold its share.
    pub(crate) due: Arc<Budget>,
    pub(crate) tenants: Arc<Tenants>,
    /// Once cancelled, events no longer wait for room.
    pub(crate) stop: CancellationToken,
}

impl Deliverer {
    /// Replaces the delivery's Subscription by the current one, because an edit or a deletion since the match counts.
    /// Returns how the Subscription stands.
    pub(crate) fn standing(&self, delivery: &mut Delivery) -> Standing {
        let version = self.index.version();
        if version != delivery.version {
            match self.index.lookup(&delivery.subscription.uid) {
                Lookup::Serving(current, _) => (delivery.subscription, delivery.version) = (current, version),
                Lookup::Barred(_) => return Standing::Waits(Postponed::ProducerBarred),
                Lookup::Absent { .. } => return Standing::Waits(Postponed::SubscriptionAbsent),
                Lookup::Deleted => return Standing::Gone,
            }
        }
        self.flow(&delivery.subscription, &delivery.published, delivery.origin, delivery.progress.probe)
    }

    /// Whether a delivery whose Subscription was served may still be attempted as it was prepared: the lease is valid,
    /// and the Subscription has not changed.
    pub(crate) fn stands_as_before(&self, delivery: &mut Delivery) -> bool {
        self.liveness.is_live() && self.index.still_finds(&delivery.subscription, &mut delivery.version)
    }
}
