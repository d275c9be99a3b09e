//! Applies the park quota (see `hookwright_core::delivery::quota`). The counts of other dispatchers are read from the
//! health bucket when needed.

use std::sync::Arc;

use hookwright_core::delivery::health::Waiting;
use hookwright_core::delivery::quota::{ParkQuota, Room};
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::nats::Nats;
use tokio::time::Instant;
use tracing::warn;

use crate::health::HealthCell;
use crate::parking::elsewhere::Elsewhere;
use crate::parking::parked_budget::{ParkedBudget, Parking};

/// The approximate number of bytes that are stored besides an event's own.
const STORED_WITH: u64 = 1024;

/// The quota that a delivery found used up.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} deliveries of the Subscription, or {} bytes of them, are parked already{note}",
    .quota.deliveries, .quota.bytes
)]
pub(crate) struct UsedUp {
    quota: ParkQuota,
    note: &'static str,
}

/// Admits deliveries to be parked, as far as the quotas have room.
pub(crate) struct Quota {
    quota: ParkQuota,
    parked_budget: ParkedBudget,
    elsewhere: Elsewhere,
    complaints: Seldom,
}

impl Quota {
    pub(crate) fn new(quota: ParkQuota, parked_budget: ParkedBudget, nats: Nats, incarnation: String) -> Self {
        let elsewhere = Elsewhere::new(nats, incarnation);
        Self { quota, parked_budget, elsewhere, complaints: Seldom::default() }
    }

    /// Counts a delivery as parked, unless the quota of its Subscription applies and is used up.
    pub(crate) async fn admit(
        &self,
        cell: &Arc<HealthCell>,
        delivery: Waiting,
        has_quota: bool,
    ) -> Result<Parking, UsedUp> {
        let bytes = u64::try_from(delivery.bytes).unwrap_or_default().saturating_add(STORED_WITH);
        loop {
            let parking = self.parked_budget.parking(bytes).await;
            let quota = if has_quota { self.parked_budget.shrink(self.quota) } else { ParkQuota::UNLIMITED };
            match cell.admit(quota, delivery, Instant::now()) {
                Room::Free => return Ok(parking),
                Room::UsedUp => {
                    let note = if quota == self.quota {
                        ""
                    } else {
                        "; the quota has shrunk because all Subscriptions together have parked much"
                    };
                    return Err(UsedUp { quota, note });
                }
                Room::Look => {
                    // Dropped during the look, so that other deliveries can be parked meanwhile.
                    drop(parking);
                    self.look(cell).await;
                }
            }
        }
    }

    /// Looks at what others have parked, or waits until another delivery of the Subscription has looked.
    async fn look(&self, cell: &HealthCell) {
        let Some(_right) = cell.look().await else { return };
        let elsewhere = self.elsewhere.look(cell.uid()).await.inspect_err(|error| {
            if self.complaints.now() {
                let uid = cell.uid();
                warn!(subscription_uid = %uid, error = chain(error), "can't read what other dispatchers have parked");
            }
        });
        cell.looked(elsewhere.ok(), Instant::now());
    }
}
