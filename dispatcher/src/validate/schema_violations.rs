//! Counts the events of each Producer that violated their schema. The dispatchers add to a shared count by
//! compare-and-set, off the hot path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::violations_key;
use hookwright_core::record::{VERSION, Violations};
use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::Nats;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::debug;

use crate::config::index::Index;
use crate::shared_count::{self, CountError};

const TICK: Duration = Duration::from_secs(1);
/// How often the count of one Producer is written. The first violation is written at once.
const EVERY: Duration = Duration::from_secs(10);
/// How often a dispatcher that stops tries to write the counts.
const LAST_TRIES: usize = 5;

#[derive(Debug, Default)]
struct Pending {
    count: u64,
    written: Option<Instant>,
}

/// The violations that are not written yet, for each Producer.
pub(crate) struct ViolationCounts {
    nats: Nats,
    index: Arc<Index>,
    pending: Mutex<HashMap<ProducerUid, Pending>>,
}

impl ViolationCounts {
    pub(crate) fn new(nats: Nats, index: Arc<Index>) -> Arc<Self> {
        Arc::new(Self { nats, index, pending: Mutex::default() })
    }

    /// Counts one violation.
    pub(crate) fn add(&self, producer: &ProducerUid) {
        self.pending().entry(producer.clone()).or_default().count += 1;
    }

    /// Writes the counts for as long as the process runs.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.flush(false).await;
        }
    }

    /// Writes all counts before the dispatcher stops. Another dispatcher may write first, but not every time.
    pub(crate) async fn finish(&self) {
        for _ in 0..LAST_TRIES {
            self.flush(true).await;
            if self.pending().values().all(|pending| pending.count == 0) {
                return;
            }
        }
    }

    /// Writes the counts that are due; with `force`, all of them.
    async fn flush(&self, force: bool) {
        for (producer, count) in self.take(force) {
            if !self.index.knows(&producer) {
                self.pending().remove(&producer);
                continue;
            }
            if let Err(error) = self.write(&producer, count).await {
                // Another dispatcher wrote first, or NATS is unreachable: the count is written at the next tick.
                debug!(producer_uid = %producer, error = chain(&error), "can't count violations; retrying");
                let mut pending = self.pending();
                let entry = pending.entry(producer).or_default();
                (entry.count, entry.written) = (entry.count + count, None);
            }
        }
    }

    fn take(&self, force: bool) -> Vec<(ProducerUid, u64)> {
        let now = Instant::now();
        let due = |entry: &Pending| {
            entry.count > 0 && (force || entry.written.is_none_or(|written| now.duration_since(written) >= EVERY))
        };
        let mut pending = self.pending();
        let due = pending.iter_mut().filter(|(_, entry)| due(entry)).map(|(producer, entry)| {
            entry.written = Some(now);
            (producer.clone(), std::mem::take(&mut entry.count))
        });
        due.collect()
    }

    async fn write(&self, producer: &ProducerUid, count: u64) -> Result<(), CountError> {
        let add = |before: &mut Violations| {
            *before = Violations { version: VERSION, count: before.count.saturating_add(count) };
        };
        shared_count::change(&self.nats, &violations_key(producer), add).await.map(drop)
    }

    // A poisoned lock means a panic between two counts, which are approximate across a crash anyway.
    fn pending(&self) -> MutexGuard<'_, HashMap<ProducerUid, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
