//! Deliveries on which work has panicked. Left alone, their event would come again, to its other receivers too, and panic
//! again. So such a delivery is parked once, and given up when the work panics again.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::postpone::Postponed;
use tracing::error;

use crate::ack::hold::Abandoned;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::Delivery;
use crate::deliver::spare::Spare;
use crate::panics;

impl Deliverer {
    /// Does the work on a delivery. If it panics, the delivery is settled all the same, and there is no result.
    pub(crate) async fn survive<T>(
        &self,
        spare: Spare,
        work: impl Future<Output = Result<Option<T>, Abandoned>>,
    ) -> Result<Option<T>, Abandoned> {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(done) => done,
            Err(panic) => {
                Box::pin(self.panicked(spare.delivery(), panics::message(&*panic))).await;
                Ok(None)
            }
        }
    }

    pub(super) async fn panicked(&self, mut delivery: Delivery, message: String) {
        error!(subscription = delivery.subscription.name, id = %delivery.id, message, "work on a delivery panicked");
        delivery.progress.panics = delivery.progress.panics.saturating_add(1);
        if delivery.progress.panics > 1 {
            return self.bury(&delivery, DeadLetterReason::Internal, Some(&message)).await;
        }
        self.postpone(delivery, Postponed::Panicked).await;
    }
}
