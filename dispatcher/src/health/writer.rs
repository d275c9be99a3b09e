//! Writes counts to the health bucket.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::Store;
use futures::StreamExt;
use hookwright_core::health::DeliveryCounts;
use hookwright_core::names::{HEALTH_BUCKET, health_key};
use hookwright_core::record::encode;
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::nats::Nats;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

use super::{HealthCell, Take};
use crate::clock::Clock;
use crate::index::Index;

/// How often the writer looks for what to write.
const TICK: Duration = Duration::from_millis(200);
/// Writes under way at the same time.
const CONCURRENCY: usize = 16;

/// Writes what has changed.
pub(crate) struct HealthWriter {
    pub(crate) nats: Nats,
    pub(crate) index: Arc<Index>,
    /// What is due is due by it.
    pub(crate) clock: Arc<Clock>,
    pub(crate) incarnation: String,
    pub(crate) changed: mpsc::UnboundedReceiver<Arc<HealthCell>>,
    pub(crate) complaints: Seldom,
}

impl HealthWriter {
    /// Until `stop`; then once more, for all that is not written.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut waiting = Vec::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            let stopping = tokio::select! {
                () = &mut stop => true,
                _ = tick.tick() => false,
            };
            while let Ok(cell) = self.changed.try_recv() {
                waiting.push(cell);
            }
            waiting = self.write(waiting, stopping).await;
            if stopping {
                return;
            }
        }
    }

    /// Returns what is to be looked at again.
    async fn write(&self, cells: Vec<Arc<HealthCell>>, force: bool) -> Vec<Arc<HealthCell>> {
        let (now, wall) = (Instant::now(), self.clock.now());
        let (mut again, mut writes) = (Vec::with_capacity(cells.len()), Vec::new());
        for cell in cells {
            if self.index.subscription(&cell.uid).is_none() {
                // Nothing is written of what is deleted; should it come back, it counts on from here.
                cell.rest();
                continue;
            }
            match cell.take(now, wall, force) {
                Take::Write(counts) => writes.push((Arc::clone(&cell), counts)),
                Take::Later => {}
                Take::Rest => continue,
            }
            again.push(cell);
        }
        if writes.is_empty() {
            return again;
        }
        match self.nats.jetstream.get_key_value(HEALTH_BUCKET).await {
            Ok(bucket) => {
                let writes = futures::stream::iter(writes);
                writes.for_each_concurrent(CONCURRENCY, |(cell, counts)| self.put(&bucket, cell, counts)).await;
            }
            Err(error) => writes.iter().for_each(|(cell, _)| self.not_written(cell, &error)),
        }
        again
    }

    async fn put(&self, bucket: &Store, cell: Arc<HealthCell>, counts: Box<DeliveryCounts>) {
        // Counts always encode.
        let Ok(value) = encode(&*counts) else { return };
        if let Err(error) = bucket.put(health_key(&cell.uid, &self.incarnation), value.into()).await {
            self.not_written(&cell, &error);
        }
    }

    /// It is not pressing any more: NATS is away, or has no room.
    fn not_written(&self, cell: &Arc<HealthCell>, error: &dyn std::error::Error) {
        if self.complaints.now() {
            warn!(error = chain(error), "health can't be written: trying on");
        }
        cell.change(|_| false);
    }
}
