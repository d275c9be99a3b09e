//! Delivery health: counts in memory, written to the health bucket off the hot path. A failed write stops no delivery.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use hookwright_core::health::{DeliveryCounts, LastAttempt};
use hookwright_core::ids::SubscriptionUid;
use hookwright_core::names::{HEALTH_BUCKET, health_key};
use hookwright_core::record::{VERSION, encode};
use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::Nats;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

use crate::index::Index;

/// How often the writer looks for what to write.
const TICK: Duration = Duration::from_millis(200);
/// How often a subscription's counts are written, unless something turned.
const EVERY: Duration = Duration::from_secs(5);
/// Writes under way at the same time.
const CONCURRENCY: usize = 16;
/// Due times remembered for each subscription: enough to name the next one.
const DUE: usize = 32;

/// The counts of one subscription at this dispatcher.
#[derive(Debug)]
pub(crate) struct HealthCell {
    uid: SubscriptionUid,
    state: Mutex<State>,
    dirty: mpsc::UnboundedSender<Arc<HealthCell>>,
}

#[derive(Debug, Default)]
struct State {
    counts: DeliveryCounts,
    due: BTreeSet<Timestamp>,
    queued: bool,
    urgent: bool,
    written: Option<Instant>,
}

impl HealthCell {
    /// An attempt was made.
    pub(crate) fn attempt(self: &Arc<Self>, attempt: LastAttempt) {
        self.change(|state| state.counts.attempt(attempt));
    }

    /// A delivery waits until `at`; `again` if it had waited before.
    pub(crate) fn parked(self: &Arc<Self>, at: Timestamp, again: bool) {
        self.change(|state| {
            state.due.insert(at);
            if state.due.len() > DUE {
                state.due.pop_last();
            }
            if !again {
                state.counts.retrying += 1;
            }
            !again && state.counts.retrying == 1
        });
    }

    /// A delivery has come to its end; `waited` if it had been parked.
    pub(crate) fn ended(self: &Arc<Self>, waited: bool, dead_letter: bool) {
        if !waited && !dead_letter {
            return;
        }
        self.change(|state| {
            state.counts.dead_lettered += u64::from(dead_letter);
            state.counts.retrying -= i64::from(waited);
            dead_letter || state.counts.retrying == 0
        });
    }

    /// `change` returns whether something turned, which is written at once.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state();
        let turned = change(&mut state);
        state.urgent |= turned;
        if !state.queued {
            state.queued = true;
            // The writer lives as long as the process.
            let _ = self.dirty.send(Arc::clone(self));
        }
    }

    /// The counts to write now, if they are due.
    fn take(&self, now: Instant, force: bool) -> Option<DeliveryCounts> {
        let mut state = self.state();
        let due = state.written.is_none_or(|written| now.duration_since(written) >= EVERY);
        if !(force || state.urgent || due) {
            return None;
        }
        state.queued = false;
        state.urgent = false;
        state.written = Some(now);
        let wall = Timestamp::now();
        state.due.retain(|at| *at >= wall);
        state.counts.version = VERSION;
        state.counts.next_attempt = state.due.first().copied();
        Some(state.counts.clone())
    }

    // A poisoned lock means a panic between two counts: they are approximate across a crash, too.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All counts of this dispatcher.
pub(crate) struct Health {
    cells: Mutex<HashMap<SubscriptionUid, Arc<HealthCell>>>,
    dirty: mpsc::UnboundedSender<Arc<HealthCell>>,
}

impl Health {
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Arc<HealthCell>>) {
        let (dirty, changed) = mpsc::unbounded_channel();
        (Arc::new(Self { cells: Mutex::default(), dirty }), changed)
    }

    pub(crate) fn cell(&self, uid: &SubscriptionUid) -> Arc<HealthCell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = cells.entry(uid.clone()).or_insert_with(|| {
            Arc::new(HealthCell { uid: uid.clone(), state: Mutex::default(), dirty: self.dirty.clone() })
        });
        Arc::clone(cell)
    }

    fn forget(&self, uid: &SubscriptionUid) {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Writes what has changed.
pub(crate) struct HealthWriter {
    pub(crate) nats: Nats,
    pub(crate) health: Arc<Health>,
    pub(crate) index: Arc<Index>,
    pub(crate) incarnation: String,
    pub(crate) changed: mpsc::UnboundedReceiver<Arc<HealthCell>>,
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
        if cells.is_empty() {
            return cells;
        }
        let bucket = match self.nats.jetstream.get_key_value(HEALTH_BUCKET).await {
            Ok(bucket) => bucket,
            Err(error) => {
                warn!(error = chain(&error), "health can't be written");
                return cells;
            }
        };
        let now = Instant::now();
        let writes = futures::stream::iter(cells).map(|cell| {
            let bucket = &bucket;
            async move {
                if self.index.subscription(&cell.uid).is_none() {
                    self.health.forget(&cell.uid);
                    return None;
                }
                let Some(counts) = cell.take(now, force) else { return Some(cell) };
                let value = encode(&counts).ok()?;
                match bucket.put(health_key(&cell.uid, &self.incarnation), value.into()).await {
                    Ok(_) => None,
                    Err(error) => {
                        warn!(error = chain(&error), "health can't be written");
                        cell.change(|_| true);
                        None
                    }
                }
            }
        });
        writes.buffer_unordered(CONCURRENCY).filter_map(|again| async { again }).collect().await
    }
}
