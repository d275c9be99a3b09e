//! Back pressure from the parked deliveries. Their stream has no limits of its own, for a full one would drop or refuse
//! what waits; so dispatchers take in no new events while it holds more than its share of a configured budget. What is
//! due goes on, and the events wait in their own streams.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hookwright_core::names::PARKED_STREAM;
use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::Nats;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::metrics::Metrics;

/// How often the stream is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Whether new events may be taken in.
#[derive(Debug, Clone)]
pub(crate) struct Pressure {
    high: watch::Receiver<bool>,
}

/// Watches the stream.
pub(crate) struct PressureGauge {
    nats: Nats,
    metrics: Arc<Metrics>,
    /// Above this many bytes, nothing new is taken in.
    limit: u64,
    high: watch::Sender<bool>,
}

impl PressureGauge {
    /// New events are taken in while less than 80% of `budget` (bytes) is used.
    pub(crate) fn new(nats: Nats, metrics: Arc<Metrics>, budget: u64) -> (Self, Pressure) {
        let (high, receiver) = watch::channel(false);
        (Self { nats, metrics, limit: budget / 5 * 4, high }, Pressure { high: receiver })
    }

    /// For ever.
    pub(crate) async fn run(self) -> Infallible {
        loop {
            // While there is no answer, what was known holds.
            match self.nats.jetstream.get_stream(PARKED_STREAM).await {
                Ok(stream) => self.set(stream.cached_info().state.bytes),
                Err(error) => warn!(error = chain(&error), "can't look at {PARKED_STREAM}"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn set(&self, bytes: u64) {
        let high = bytes >= self.limit;
        self.metrics.parked_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.paused.set(i64::from(high));
        let turned = self.high.send_if_modified(|current| std::mem::replace(current, high) != high);
        match (turned, high) {
            (true, true) => warn!(bytes, limit = self.limit, "too much is parked: no new events are taken in"),
            (true, false) => info!(bytes, limit = self.limit, "new events are taken in again"),
            (false, _) => {}
        }
    }
}

impl Pressure {
    pub(crate) fn is_high(&self) -> bool {
        *self.high.borrow()
    }

    /// Waits until new events may be taken in.
    pub(crate) async fn relieved(&self) {
        // The sender lives as long as the process.
        let _ = self.high.clone().wait_for(|high| !high).await;
    }
}
