//! Deliveries that have failed, and for which the park quota has no room (see `hookwright_core::delivery::doubt`).

use hookwright_core::delivery::backoff::Jitter;
use hookwright_core::position::{Gone, Reason};
use jiff::Timestamp;
use tokio::time::timeout;

use crate::ack::hold::Abandoned;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::{Delivery, Origin};
use crate::parking::quota::UsedUp;
use crate::position::positions::Unreadable;

/// Why a delivery has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Its event is at fault: others succeed.
    Itself,
    /// Its endpoint is away.
    Away(Reason),
    /// Nobody knows: nothing else was attempted.
    Unknown,
}

impl Deliverer {
    /// Settles a delivery that has failed and has no room to be parked until `at`. If its event is at fault, it is given up.
    /// If its endpoint is away, the event waits in the stream. If nobody knows, the event goes to the dedicated reader,
    /// which tries it again beside everything else that comes.
    pub(super) async fn doubt(&self, delivery: Delivery, at: Timestamp, used_up: &UsedUp) -> Result<(), Abandoned> {
        let is_shared = delivery.origin == Origin::Shared;
        let why = self.why(&delivery, is_shared).await;
        let (cell, event) = (&delivery.subscription.position, &delivery.published.event);
        if is_shared && cell.covers(event.stream_created, event.sequence) {
            return Ok(());
        }
        // What comes after a closed range would have to wait for this event.
        let goes_back = !is_shared && (self.stop.is_cancelled() || cell.reads_open_range());
        match why {
            Why::Itself => self.give_up_beyond_quota(&delivery, used_up).await,
            _ if goes_back => return Err(Abandoned),
            Why::Away(reason) => self.stay_behind(delivery, reason).await,
            Why::Unknown if is_shared => self.go_behind_in_doubt(delivery, at).await,
            Why::Unknown => self.retry_beyond_quota(delivery, at).await,
        }
        Ok(())
    }

    /// Waits until it is known why the delivery has failed, for a while.
    async fn why(&self, delivery: &Delivery, shared: bool) -> Why {
        let (subscription, failed) = (&delivery.subscription, self.clock.now());
        let cell = &subscription.position;
        let last = delivery.progress.history.last();
        if self.is_away(subscription).is_none() && !last.is_some_and(|attempt| attempt.outcome.is_of_endpoint()) {
            return Why::Itself;
        }
        let mut doubt = cell.doubt(shared, Jitter::new(rand::random()));
        let known = async {
            loop {
                let turned = cell.turned();
                if let Some(reason) = self.is_away(subscription) {
                    return Why::Away(reason);
                }
                if cell.is_at_fault(failed) {
                    return Why::Itself;
                }
                turned.await;
            }
        };
        if let Some(Ok(why)) = self.stop.run_until_cancelled(timeout(doubt.wait(), known)).await {
            return why;
        }
        doubt.again = !shared;
        Why::Unknown
    }

    /// Puts the Subscription behind from this event on. If the position can't cover the event, it is parked, a little beyond
    /// the quota.
    async fn go_behind_in_doubt(&self, delivery: Delivery, at: Timestamp) {
        let event = &delivery.published.event;
        let (place, reason) = ((event.stream_created, event.sequence), Reason::EndpointFailing);
        match self.positions.go_behind(&delivery.subscription.position, place, self.clock.now(), reason).await {
            Ok(Gone::Covered | Gone::Behind) => {}
            Ok(Gone::Park) | Err(Unreadable) => self.retry_beyond_quota(delivery, at).await,
        }
    }
}
