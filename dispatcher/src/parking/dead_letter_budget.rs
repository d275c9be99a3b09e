//! Bounds how many bytes of dead letters a namespace keeps. Beyond the bound only references are kept.
//!
//! The stream drops dead letters by their age. So the bytes of each day are counted, in one record for each namespace,
//! to which all dispatchers add by compare-and-set, off the hot path. Each dispatcher follows these records, and adds
//! what it has not written yet. More than the bound can be kept by what other dispatchers have stored in the last
//! seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookwright_core::nats::names::{
    DEAD_LETTER_BYTES_KEYS, DEAD_LETTER_STREAM, STATE_BUCKET, dead_letter_bytes_key, parse_dead_letter_bytes_key,
};
use hookwright_core::record::{DeadLetterBytes, decode};
use hookwright_runtime::logging::chain;
use hookwright_runtime::mirror::{Change, Mirror};
use hookwright_runtime::nats::Nats;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::shared_count::{self, CountError};

/// How often what was added is written.
const EVERY: Duration = Duration::from_secs(5);
/// The ticks between two looks at how long the stream keeps dead letters.
const LOOK: u32 = 12;

#[derive(Debug, Default)]
struct Namespace {
    stored: DeadLetterBytes,
    unwritten: u64,
}

#[derive(Debug)]
struct State {
    namespaces: HashMap<String, Namespace>,
    /// How long the stream keeps a dead letter.
    age: Duration,
}

/// The bytes of dead letters that each namespace may keep.
pub(crate) struct DeadLetterBudget {
    nats: Nats,
    clock: Arc<Clock>,
    bound: u64,
    state: Mutex<State>,
}

impl DeadLetterBudget {
    /// A budget of `bound` bytes for each namespace.
    pub(crate) fn new(nats: Nats, clock: Arc<Clock>, bound: u64) -> Arc<Self> {
        // Until the stream was looked at, everything counts.
        let state = State { namespaces: HashMap::new(), age: Duration::MAX };
        Arc::new(Self { nats, clock, bound, state: Mutex::new(state) })
    }

    /// Counts a dead letter of this size, unless the namespace has no room for it. Returns whether it has.
    pub(crate) fn take(&self, namespace: &str, bytes: usize) -> bool {
        let (now, bytes) = (self.clock.now(), u64::try_from(bytes).unwrap_or(u64::MAX));
        let mut state = self.state();
        let age = state.age;
        let entry = match state.namespaces.get_mut(namespace) {
            Some(entry) => entry,
            None => state.namespaces.entry(namespace.to_owned()).or_default(),
        };
        let used = entry.stored.total(now, age).saturating_add(entry.unwritten);
        let has_room = used.saturating_add(bytes) <= self.bound;
        if has_room {
            entry.unwritten += bytes;
        }
        has_room
    }

    /// Follows what all dispatchers have stored, for as long as the process runs.
    pub(crate) async fn follow(self: Arc<Self>) {
        Mirror::new(self.nats.clone(), STATE_BUCKET, DEAD_LETTER_BYTES_KEYS).run(|change| self.apply(change)).await;
    }

    /// Writes what was added, for as long as the process runs.
    pub(crate) async fn write(self: Arc<Self>) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for n in (0..LOOK).cycle() {
            tick.tick().await;
            if n == 0 {
                self.look().await;
            }
            self.flush().await;
        }
    }

    /// Writes what was added. What can't be written is written the next time.
    pub(crate) async fn flush(&self) {
        let due: Vec<(String, u64)> = {
            let mut state = self.state();
            let due = state.namespaces.iter_mut().filter(|(_, entry)| entry.unwritten > 0);
            due.map(|(namespace, entry)| (namespace.clone(), entry.unwritten)).collect()
        };
        for (namespace, bytes) in due {
            match self.add(&namespace, bytes).await {
                Ok(stored) => {
                    let mut state = self.state();
                    let entry = state.namespaces.entry(namespace).or_default();
                    entry.unwritten -= bytes;
                    entry.stored = stored;
                }
                Err(error) => debug!(namespace, error = chain(&error), "can't count dead letters; retrying"),
            }
        }
    }

    async fn add(&self, namespace: &str, bytes: u64) -> Result<DeadLetterBytes, CountError> {
        let (now, age) = (self.clock.now(), self.state().age);
        let add = |stored: &mut DeadLetterBytes| stored.add(bytes, now, age);
        shared_count::change(&self.nats, &dead_letter_bytes_key(namespace), add).await
    }

    async fn look(&self) {
        match self.nats.stream(DEAD_LETTER_STREAM).await {
            Ok(stream) => {
                let age = stream.cached_info().config.max_age;
                self.state().age = if age.is_zero() { Duration::MAX } else { age };
            }
            Err(error) => debug!(error = chain(&error), "can't read how long dead letters are kept"),
        }
    }

    fn apply(&self, change: Change) {
        match change {
            Change::Put { key, value, .. } => match (parse_dead_letter_bytes_key(&key), decode(&value)) {
                (Some(namespace), Ok(stored)) => {
                    self.state().namespaces.entry(namespace.to_owned()).or_default().stored = stored;
                }
                (_, Err(error)) => warn!(key, error = chain(&error), "can't read how many dead letters are kept"),
                (None, Ok(_)) => {}
            },
            Change::Delete { key } | Change::Vanished { key } => {
                let mut state = self.state();
                let entry = parse_dead_letter_bytes_key(&key).and_then(|key| state.namespaces.get_mut(key));
                if let Some(entry) = entry {
                    entry.stored = DeadLetterBytes::default();
                }
            }
            Change::Loaded(_) | Change::Behind => {}
        }
    }

    // A poisoned lock means a panic between two counts, which are approximate anyway.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
