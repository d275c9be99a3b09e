//! What the dispatcher reports about itself: readiness and gauges.

use std::sync::Arc;
use std::time::Duration;

use hookwright_runtime::admin::NotReady;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::index::Index;
use crate::limits::budget::Budget;
use crate::limits::outage::Tenants;
use crate::limits::shares::Room;
use crate::liveness::Liveness;
use crate::metrics::Metrics;

/// Keeps readiness and gauges up to date.
pub(crate) struct Observer {
    pub(crate) index: Arc<Index>,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<Budget>,
    pub(crate) slots: Arc<Room>,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) ready: watch::Sender<NotReady>,
    /// Cancelled when the dispatcher stops.
    pub(crate) stop: CancellationToken,
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Observer {
    /// Runs for as long as the process.
    pub(crate) async fn run(self) {
        let mut changed = self.liveness.subscribe();
        let mut outage = false;
        loop {
            if std::mem::replace(&mut outage, self.tenants.is_ours()) != outage {
                self.turned(outage);
            }
            let live = self.liveness.is_live();
            let metrics = &self.metrics;
            metrics.live.set(i64::from(live));
            metrics.held_events.set(gauge(self.events.held()));
            metrics.in_flight.set(gauge(self.slots.held()));
            metrics.subscriptions.set(gauge(self.index.subscriptions()));
            metrics.unreadable.set(gauge(self.index.unreadable()));
            metrics
                .config_revision
                .set(i64::try_from(self.index.loaded.number().unwrap_or_default()).unwrap_or(i64::MAX));
            let reason = self.not_ready(live);
            self.ready.send_if_modified(|current| std::mem::replace(current, reason.clone()) != reason);
            let _ = tokio::time::timeout(Duration::from_millis(500), changed.changed()).await;
        }
    }

    /// Tells of an outage on this side, or of its end.
    fn turned(&self, outage: bool) {
        self.metrics.outage.set(i64::from(outage));
        if outage {
            warn!(
                "attempts in half of the namespaces get no answer: this side's network, name servers or egress proxy \
                 may be at fault; attempts there are not counted"
            );
        } else {
            info!("the outage on this side is over");
        }
    }

    fn not_ready(&self, live: bool) -> NotReady {
        if self.stop.is_cancelled() {
            Some("stopping".to_owned())
        } else if !live {
            Some("the liveness lease does not hold".to_owned())
        } else {
            self.clock.fault().map(str::to_owned)
        }
    }
}
