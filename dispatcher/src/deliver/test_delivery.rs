//! A test delivery: one attempt with the endpoint, headers and keys of now, because a user has asked for it.
//!
//! Only the result in the state bucket follows from a test. A test does not enter the lane, so it doesn't wait behind
//! other deliveries, but it takes a slot and a due delivery's place of its namespace. It is sent even if the Subscription
//! is disabled, so it shows whether the endpoint is back. If this dispatcher dies before the result is stored, the test
//! comes again with the same `webhook-id`.

use std::sync::Arc;

use hookwright_core::delivery::outcome::{Outcome, OutcomeKind};
use hookwright_core::delivery::postpone::Postponed;
use hookwright_core::delivery::test_delivery::{TEST_HEADER, TestDelivery, TestResult};
use hookwright_core::payload::NotRendered;
use hookwright_core::record::decode;
use hookwright_runtime::logging::chain;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::ack::hold::{Abandoned, Hold};
use crate::config::index::{Lookup, Producer};
use crate::config::subscription::Subscription;
use crate::deliver::attempt::Attempt;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::queued::{Admitted, Permits};
use crate::http::sender::Sent;
use crate::limits::attempts::Permit;
use crate::limits::outage::Tenant;
use crate::limits::shares::Room;

/// The header that makes a due message a test; `None` if the message is not one.
pub(crate) fn test_header(message: &async_nats::Message) -> Option<&str> {
    Some(message.headers.as_ref()?.get(TEST_HEADER)?.as_str())
}

/// The slot of a test. It is given back when dropped.
struct Slot {
    all: Arc<Room>,
    tenant: Arc<Tenant>,
}

impl Slot {
    /// Takes a slot, if the namespace may have one more.
    fn take(all: &Arc<Room>, tenant: &Arc<Tenant>) -> Option<Self> {
        if !all.has_place(&tenant.attempts, 0) {
            return None;
        }
        all.take(&tenant.attempts, 1);
        Some(Self { all: Arc::clone(all), tenant: Arc::clone(tenant) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.all.give_back(&self.tenant.attempts, 1);
    }
}

impl Deliverer {
    /// Sends the test, unless it was sent before, and stores its result. Returns why it is postponed, if it is.
    pub(crate) async fn deliver_test(
        &self,
        header: &str,
        hold: &Hold<Permits>,
    ) -> Result<Option<Postponed>, Abandoned> {
        let test: TestDelivery = match decode(header.as_bytes()) {
            Ok(test) => test,
            Err(failure) => {
                // A newer dispatcher may be able to read it.
                error!(error = chain(&failure), "can't read a test delivery; postponed");
                return Ok(Some(Postponed::DeliveryUnreadable));
            }
        };
        let awaited = self.store.awaits(&test).await.map_err(|failure| {
            warn!(error = chain(&failure), "can't prepare a test delivery; it comes again");
            Abandoned
        })?;
        if !awaited {
            return Ok(None);
        }
        // An edit that came with the request counts for the test.
        if self.index.loaded.number() < Some(test.revision) {
            return Ok(Some(Postponed::ConfigBehind));
        }
        let subscription = match self.index.lookup(&test.subscription) {
            Lookup::Serving(subscription, _) | Lookup::Barred(subscription) => subscription,
            Lookup::Absent { .. } => return Ok(Some(Postponed::SubscriptionAbsent)),
            Lookup::Deleted => return Ok(None),
        };
        let tenant = &subscription.tenant;
        let slot = self.holds_due(&subscription, hold).then(|| Slot::take(&self.slots, tenant)).flatten();
        let Some(_slot) = slot else { return Ok(Some(Postponed::NamespaceBusy)) };
        let permit = self.attempts.take(tenant.number).await;
        let Some(mut permit) = permit.filter(|_| self.liveness.is_live()) else { return Err(Abandoned) };
        let result = match self.index.lookup(&test.subscription) {
            Lookup::Serving(subscription, producer) => self.try_out(&test, &subscription, &producer, &mut permit).await,
            Lookup::Barred(_) => return Ok(Some(Postponed::ProducerBarred)),
            Lookup::Absent { .. } => return Ok(Some(Postponed::SubscriptionAbsent)),
            Lookup::Deleted => return Ok(None),
        };
        drop(permit);
        let Some(result) = result else { return Ok(Some(Postponed::Exhausted)) };
        self.store.answer(&test, result).await;
        Ok(None)
    }

    /// Sends the test. There is no result if this process had no means to send it.
    async fn try_out(
        &self,
        test: &TestDelivery,
        subscription: &Subscription,
        producer: &Producer,
        permit: &mut Permit<Admitted>,
    ) -> Option<TestResult> {
        let (id, started) = (test.id(), Instant::now());
        let without = |kind| Sent::from(Outcome::without_response(kind));
        let prepared = match test.event(&producer.source) {
            Ok(event) => self.prepare(subscription, &Arc::new(event), permit).await,
            Err(_) => return Some(self.tried(test, subscription, started, without(OutcomeKind::Unsignable))),
        };
        let sent = match prepared {
            Ok(webhook) => self.send(Attempt { subscription, id: &id, webhook }, self.clock.now(), permit).await,
            Err(NotRendered::Failed(_)) => without(OutcomeKind::TransformFailed),
            Err(NotRendered::Forbidden(_)) => without(OutcomeKind::Forbidden),
        };
        (!sent.lacked_means()).then(|| self.tried(test, subscription, started, sent))
    }

    fn tried(&self, test: &TestDelivery, subscription: &Subscription, started: Instant, sent: Sent) -> TestResult {
        let (id, Sent { outcome, cause }) = (test.id(), sent);
        let cause = cause.map(|cause| chain(&*cause));
        info!(subscription = subscription.name, %id, outcome = outcome.kind.name(), cause, "sent a test delivery");
        TestResult {
            time: self.clock.now(),
            outcome: outcome.kind,
            http_status: outcome.http_status,
            duration_millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}
