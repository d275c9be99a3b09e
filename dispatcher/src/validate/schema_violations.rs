//! How many events violated their schema, for each producer: added to a count that all dispatchers share, by
//! compare-and-set, off the hot path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::{context, kv};
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::{STATE_BUCKET, violations_key};
use hookwright_core::record::{RecordError, VERSION, Violations, decode, encode};
use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::Nats;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::debug;

use crate::config::index::Index;

const TICK: Duration = Duration::from_secs(1);
/// How often the count of one producer is written; the first one at once.
const EVERY: Duration = Duration::from_secs(10);
/// How often a dispatcher that ends tries to write the counts.
const LAST_TRIES: usize = 5;

#[derive(Debug, thiserror::Error)]
enum CountError {
    #[error("the state bucket is not there")]
    Bucket(#[source] context::KeyValueError),
    #[error("the count can't be read")]
    Read(#[source] kv::EntryError),
    #[error("the count can't be understood")]
    Record(#[from] RecordError),
    #[error("the count can't be written")]
    Write(#[source] kv::UpdateError),
}

#[derive(Debug, Default)]
struct Pending {
    count: u64,
    written: Option<Instant>,
}

/// What is not written yet.
pub(crate) struct ViolationCounts {
    nats: Nats,
    index: Arc<Index>,
    pending: Mutex<HashMap<ProducerUid, Pending>>,
}

impl ViolationCounts {
    pub(crate) fn new(nats: Nats, index: Arc<Index>) -> Arc<Self> {
        Arc::new(Self { nats, index, pending: Mutex::default() })
    }

    /// Counts one.
    pub(crate) fn add(&self, producer: &ProducerUid) {
        self.pending().entry(producer.clone()).or_default().count += 1;
    }

    /// Writes for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.flush(false).await;
        }
    }

    /// Writes all there is, before the end. Another dispatcher may be faster, but not every time.
    pub(crate) async fn finish(&self) {
        for _ in 0..LAST_TRIES {
            self.flush(true).await;
            if self.pending().values().all(|pending| pending.count == 0) {
                return;
            }
        }
    }

    /// Writes what is due; with `force`, all there is.
    async fn flush(&self, force: bool) {
        for (producer, count) in self.take(force) {
            if !self.index.knows(&producer) {
                self.pending().remove(&producer);
                continue;
            }
            if let Err(error) = self.write(&producer, count).await {
                // Another dispatcher was faster, or NATS is away: again at the next tick.
                debug!(%producer, error = chain(&error), "violations are not counted yet");
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
        let bucket = self.nats.jetstream.get_key_value(STATE_BUCKET).await.map_err(CountError::Bucket)?;
        let key = violations_key(producer);
        let entry = bucket.entry(&key).await.map_err(CountError::Read)?;
        let revision = entry.as_ref().map_or(0, |entry| entry.revision);
        let before = match entry.filter(|entry| entry.operation == kv::Operation::Put) {
            Some(entry) => decode::<Violations>(&entry.value)?.count,
            None => 0,
        };
        let value = encode(&Violations { version: VERSION, count: before.saturating_add(count) })?;
        bucket.update(&key, value.into(), revision).await.map_err(CountError::Write)?;
        Ok(())
    }

    // A poisoned lock means a panic between two counts: they are approximate across a crash, too.
    fn pending(&self) -> MutexGuard<'_, HashMap<ProducerUid, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
