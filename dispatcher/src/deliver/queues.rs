//! The queues of deliveries that wait for their turn, swept together.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::index::{Index, Lookup};
use crate::deliver::queued::{Admitted, Queued};
use crate::health::Health;
use crate::limits::attempts::Attempts;
use crate::limits::lane::{self, Lanes};
use crate::limits::read_ahead::ReadAhead;
use crate::limits::slowness::Slowness;

/// How often lanes and counts of deleted Subscriptions are removed.
const REMOVE_DELETED: Duration = Duration::from_secs(60);

/// The queues of deliveries that wait for their turn. They are closed when dropped, because nothing may start after
/// that.
pub(crate) struct Queues {
    pub(crate) lanes: Arc<Lanes<Queued>>,
    pub(crate) attempts: Arc<Attempts<Admitted>>,
    pub(crate) read_ahead: Arc<ReadAhead>,
}

impl Queues {
    /// Starts nothing from now on: what waits leaves.
    pub(crate) fn close(&self) {
        self.lanes.close();
        self.attempts.close();
    }

    /// Runs for as long as the process. Takes deliveries that have waited too long out of the queues, and removes the
    /// lanes and counts of deleted Subscriptions.
    pub(crate) async fn sweep(
        lanes: Arc<Lanes<Queued>>,
        attempts: Arc<Attempts<Admitted>>,
        read_ahead: Arc<ReadAhead>,
        index: Arc<Index>,
        health: Arc<Health>,
    ) {
        let mut ticks = interval(lane::SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut removed, mut slowness) = (Instant::now(), Slowness::default());
        loop {
            let due = ticks.tick().await;
            let now = Instant::now();
            let allowance = slowness.measured(now.saturating_duration_since(due));
            read_ahead.sweep(now, allowance);
            lanes.sweep(now, allowance);
            attempts.sweep(now, allowance);
            if now.saturating_duration_since(removed) >= REMOVE_DELETED {
                removed = now;
                lanes.retain(|subscription| index.subscription(subscription).is_some());
                health.forget(|subscription| matches!(index.lookup(subscription), Lookup::Deleted));
            }
        }
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        self.close();
    }
}
