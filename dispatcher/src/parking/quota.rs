//! Applies the park quota (see `hookwright_core::delivery::quota`). The counts of other dispatchers are read from the
//! health bucket when needed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::Request;
use async_nats::{PublishError, StatusCode, SubscribeError};
use futures::StreamExt;
use hookwright_core::delivery::health::{BaseCounts, DeliveryCounts, Summary, Waiting};
use hookwright_core::delivery::quota::{ParkQuota, Room};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::BASE;
use hookwright_core::nats::names::{HEALTH_BUCKET, health_key, parse_health_key};
use hookwright_core::record::{RecordError, decode};
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::nats::Nats;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::health::HealthCell;
use crate::parking::parked_budget::{ParkedBudget, Parking};

/// How long a look may take. After that, the counts known before are used.
const LOOK: Duration = Duration::from_secs(2);
/// The approximate number of bytes that are stored besides an event's own.
const STORED_WITH: u64 = 1024;
/// The status with which the server ends its answers.
const END_OF_BATCH: u16 = 204;

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("can't subscribe to an inbox for the counts")]
    Subscribe(#[source] SubscribeError),
    #[error("can't ask for the counts")]
    Ask(#[source] PublishError),
    #[error("the server answered with status {0}")]
    Refused(StatusCode),
    #[error("can't decode a count")]
    Record(#[source] RecordError),
    #[error("the answer is incomplete")]
    Ended,
    #[error("no answer within {LOOK:?}")]
    Late,
}

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
    nats: Nats,
    incarnation: String,
    bucket: String,
    complaints: Seldom,
}

impl Quota {
    pub(crate) fn new(quota: ParkQuota, parked_budget: ParkedBudget, nats: Nats, incarnation: String) -> Self {
        let bucket = format!("KV_{HEALTH_BUCKET}");
        Self { quota, parked_budget, nats, incarnation, bucket, complaints: Seldom::default() }
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

    async fn look(&self, cell: &HealthCell) {
        match timeout(LOOK, self.elsewhere(cell.uid())).await.unwrap_or(Err(LookError::Late)) {
            Ok(elsewhere) => cell.looked(elsewhere),
            Err(error) if self.complaints.now() => {
                let uid = cell.uid();
                warn!(subscription_uid = %uid, error = chain(&error), "can't read what other dispatchers have parked");
            }
            Err(_) => {}
        }
    }

    /// How much of the Subscription is parked by the counts of all other dispatchers.
    async fn elsewhere(&self, uid: &SubscriptionUid) -> Result<Waiting, LookError> {
        let prefix = format!("$KV.{HEALTH_BUCKET}.");
        let inbox = self.nats.client.new_inbox();
        let mut answers = self.nats.client.subscribe(inbox.clone()).await.map_err(LookError::Subscribe)?;
        let wanted = serde_json::json!({ "multi_last": [format!("{prefix}{}", health_key(uid, "*"))] });
        let request = Request::new().inbox(inbox).payload(wanted.to_string().into());
        let asked = self.nats.jetstream.send_request(format!("DIRECT.GET.{}", self.bucket), request).await;
        asked.map_err(LookError::Ask)?;
        let (mut base, mut keys) = (None::<BaseCounts>, HashMap::<String, DeliveryCounts>::new());
        loop {
            let answer = answers.next().await.ok_or(LookError::Ended)?;
            match answer.status {
                None => {}
                Some(StatusCode::NOT_FOUND) => break,
                Some(status) if status.as_u16() == END_OF_BATCH => break,
                Some(status) => return Err(LookError::Refused(status)),
            }
            let subject = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Subject"));
            let key = subject.and_then(|subject| subject.as_str().strip_prefix(&prefix)).and_then(parse_health_key);
            // A removed key leaves an empty message.
            let Some((_, incarnation)) = key.filter(|_| !answer.payload.is_empty()) else { continue };
            if incarnation == BASE {
                base = Some(decode(&answer.payload).map_err(LookError::Record)?);
            } else {
                keys.insert(incarnation.to_owned(), decode(&answer.payload).map_err(LookError::Record)?);
            }
        }
        // The dispatcher knows its own counts better. But the part of them that is in the base must not count as the
        // others'.
        keys.insert(self.incarnation.clone(), DeliveryCounts::default());
        Ok(Summary::waiting(base.as_ref(), &keys))
    }
}
