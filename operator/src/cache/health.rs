//! What the dispatchers report about deliveries: counts for each Subscription, which Subscriptions are disabled, and how
//! far each has come in its stream.
//!
//! Counts are cumulative for each incarnation of a dispatcher, so their sum is absolute: every operator computes the same
//! sum, and a restart of the operator loses nothing. The room `health` brings the sums into status.

use std::collections::HashMap;
use std::time::Duration;

use hookwright_core::delivery::health::{BaseCounts, DeliveryCounts, Summary, Waiting};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names;
use hookwright_core::nats::names::BASE;
use hookwright_core::position::{Cursor, Position};
use hookwright_core::record::{self, Disabled, RecordError};
use hookwright_crds::Subscription;
use hookwright_runtime::logging;
use hookwright_runtime::mirror::Change;
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use crate::cache::agenda::Agenda;
use crate::cache::progress::{Head, Progress};
use crate::cache::shared::Shared;

/// How long counts of a deleted Subscription may still come in: dispatchers stop within 5 s.
const LATE: Duration = Duration::from_secs(60);

/// Whether the record of a Subscription keeps its events from being sent, or what its dispatchers make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rests {
    No,
    /// `spec.suspend` is true.
    Suspended,
    /// The spec, or something that it refers to, can't be used.
    Refused,
    /// Dispatchers go by another egress file than the operator, and it may forbid the URL.
    Blocked,
}

/// What is known of one Subscription.
#[derive(Default)]
struct Known {
    object: Option<ObjectRef<Subscription>>,
    /// The counts of dispatchers that have gone.
    base: Option<BaseCounts>,
    /// The revision of the base; 0 if there is none.
    base_revision: u64,
    /// The counts of each incarnation of a dispatcher.
    counts: HashMap<String, DeliveryCounts>,
    /// How often the base and the counts have changed.
    changes: u64,
    disabled: Option<Disabled>,
    progress: Progress,
    /// Whether the record that is in place keeps events from being sent; none before it was reconciled.
    rests: Option<Rests>,
}

#[derive(Default)]
struct State {
    known: HashMap<SubscriptionUid, Known>,
    agenda: Agenda,
    gone: HashMap<SubscriptionUid, Instant>,
    /// Keys of the health bucket that came after their Subscription was deleted.
    late: Vec<String>,
    /// The Subscriptions whose `retrying` may be wrong, as a dispatcher has gone that had counted for them.
    suspects: Vec<SubscriptionUid>,
    counts_loaded: bool,
    disabled_loaded: bool,
    positions_loaded: bool,
}

/// What the dispatchers report about deliveries.
#[derive(Default)]
pub(crate) struct Health {
    state: Shared<State>,
    wake: Notify,
}

/// What is known of one Subscription now.
pub(crate) struct Reading {
    pub(crate) object: ObjectRef<Subscription>,
    /// The sum of all counts.
    pub(crate) summary: Summary,
    /// Which spec of the Subscription was disabled last.
    pub(crate) disabled: Option<Disabled>,
    /// How far the Subscription has come in its stream.
    pub(crate) progress: Progress,
    /// Whether its record keeps events from being sent; none before it was reconciled.
    pub(crate) rests: Option<Rests>,
}

impl Health {
    /// Works on the agenda of writes. The state is locked meanwhile.
    pub(crate) fn with_agenda<T>(&self, work: impl FnOnce(&mut Agenda) -> T) -> T {
        work(&mut self.state.lock().agenda)
    }

    /// Waits until something has changed since the last wait.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Takes a change of the health bucket.
    pub(crate) fn apply_counts(&self, change: Change) {
        let mut state = self.state.lock();
        match change {
            Change::Put { key, value, revision } => state.put_counts(&key, &value, revision),
            Change::Delete { key } | Change::Vanished { key } => {
                if let Some((uid, incarnation)) = names::parse_health_key(&key)
                    && let Some(known) = state.known.get_mut(&uid)
                {
                    if incarnation == BASE {
                        known.base = None;
                        known.base_revision = 0;
                    } else {
                        known.counts.remove(incarnation);
                    }
                    known.changes += 1;
                    state.agenda.changed(uid);
                }
            }
            Change::Loaded(_) => state.counts_loaded = true,
            // The counts are cumulative, so those that are known stay true as far as they go.
            Change::Behind => {}
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Takes a change of the keys that say which Subscription is disabled.
    pub(crate) fn apply_disabled(&self, change: Change) {
        let mut state = self.state.lock();
        let (key, disabled) = match change {
            Change::Put { key, value, .. } => match record::decode::<Disabled>(&value) {
                Ok(disabled) => (key, Some(disabled)),
                Err(error) => {
                    return warn!(key, error = logging::chain(&error), "can't read a mark of a disabled Subscription");
                }
            },
            Change::Delete { key } | Change::Vanished { key } => (key, None),
            Change::Behind => return,
            Change::Loaded(_) => {
                state.disabled_loaded = true;
                drop(state);
                return self.wake.notify_one();
            }
        };
        // The bucket keeps the mark of a removal, also for Subscriptions that were deleted long ago.
        if let Some(uid) = names::parse_disabled_key(&key)
            && (disabled.is_some() || state.known.contains_key(&uid))
        {
            state.known.entry(uid.clone()).or_default().disabled = disabled;
            state.agenda.changed(uid);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Takes a change of the bucket of positions.
    pub(crate) fn apply_positions(&self, change: Change) {
        let mut state = self.state.lock();
        let (key, position) = match change {
            Change::Put { key, value, .. } => match record::decode::<Position>(&value) {
                Ok(position) => (key, Some(position)),
                Err(error) => return warn!(key, error = logging::chain(&error), "can't read a position"),
            },
            Change::Delete { key } | Change::Vanished { key } => (key, None),
            Change::Behind => return,
            Change::Loaded(_) => {
                state.positions_loaded = true;
                drop(state);
                return self.wake.notify_one();
            }
        };
        if let Ok(uid) = SubscriptionUid::parse(&key)
            && !state.gone.contains_key(&uid)
            && (position.is_some() || state.known.contains_key(&uid))
        {
            state.known.entry(uid.clone()).or_default().progress.moved(position);
            state.agenda.changed(uid);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Returns the Subscriptions whose cursors have to be read. `head` returns how far the stream of one goes.
    pub(crate) fn want_cursors(&self, head: impl Fn(&ObjectRef<Subscription>) -> Option<Head>) -> Vec<SubscriptionUid> {
        let state = self.state.lock();
        let wants = |known: &Known| known.progress.wants_cursor(|| head(known.object.as_ref()?));
        state.known.iter().filter(|(_, known)| wants(known)).map(|(uid, _)| uid.clone()).collect()
    }

    /// Takes the cursor of a Subscription as it was read.
    pub(crate) fn read_cursor(&self, uid: &SubscriptionUid, cursor: Option<Cursor>, now: Timestamp) {
        let mut state = self.state.lock();
        let Some(known) = state.known.get_mut(uid) else { return };
        known.progress.read(cursor, now);
        // The stream may have gone on, too.
        state.agenda.changed(uid.clone());
        drop(state);
        self.wake.notify_one();
    }

    /// Notes that a Subscription was reconciled. It may be new, or have a new generation. `rests` says whether the
    /// record that is in place keeps events from being sent; none if that isn't known.
    pub(crate) fn touch(&self, uid: &SubscriptionUid, object: ObjectRef<Subscription>, rests: Option<Rests>) {
        let mut state = self.state.lock();
        let known = state.known.entry(uid.clone()).or_default();
        known.object = Some(object);
        known.rests = rests.or(known.rests);
        state.agenda.changed(uid.clone());
        drop(state);
        self.wake.notify_one();
    }

    /// Notes that a Subscription is deleted. Counts that still come in are late.
    pub(crate) fn gone(&self, uid: &SubscriptionUid) {
        let mut state = self.state.lock();
        state.known.remove(uid);
        state.agenda.forget(uid);
        state.gone.retain(|_, since| since.elapsed() < LATE);
        state.gone.insert(uid.clone(), Instant::now());
    }

    pub(crate) fn loaded(&self) -> bool {
        let state = self.state.lock();
        state.counts_loaded && state.disabled_loaded && state.positions_loaded
    }

    pub(crate) fn take_late(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().late)
    }

    /// Returns the Subscriptions whose attempts fail, and those that were disabled.
    pub(crate) fn failing(&self) -> Vec<SubscriptionUid> {
        let state = self.state.lock();
        let counts = |known: &Known| known.counts.values().any(|counts| counts.failing.is_some());
        let base = |known: &Known| known.base.as_ref().is_some_and(|base| base.counts.failing.is_some());
        let fails = |known: &Known| known.disabled.is_some() || counts(known) || base(known);
        state.known.iter().filter(|(_, known)| fails(known)).map(|(uid, _)| uid.clone()).collect()
    }

    /// Returns each key that a dispatcher counts under, with the incarnation.
    pub(crate) fn keys(&self) -> Vec<(SubscriptionUid, String)> {
        let state = self.state.lock();
        let keys = |(uid, known): (&SubscriptionUid, &Known)| {
            known.counts.keys().map(|incarnation| (uid.clone(), incarnation.clone())).collect::<Vec<_>>()
        };
        state.known.iter().flat_map(keys).collect()
    }

    /// Returns whether this incarnation of a dispatcher has counts of this Subscription.
    pub(crate) fn has_key(&self, uid: &SubscriptionUid, incarnation: &str) -> bool {
        self.state.lock().known.get(uid).is_some_and(|known| known.counts.contains_key(incarnation))
    }

    /// Notes that the `retrying` of this Subscription may be wrong.
    pub(crate) fn suspect(&self, uid: SubscriptionUid) {
        self.state.lock().suspects.push(uid);
    }

    pub(crate) fn take_suspects(&self) -> Vec<SubscriptionUid> {
        std::mem::take(&mut self.state.lock().suspects)
    }

    /// Returns the Subscriptions for which deliveries wait by the counts, or fewer than none do.
    pub(crate) fn retrying(&self) -> Vec<SubscriptionUid> {
        let state = self.state.lock();
        let waits = |known: &Known| Summary::waiting(known.base.as_ref(), &known.counts) != Waiting::default();
        state.known.iter().filter(|(_, known)| waits(known)).map(|(uid, _)| uid.clone()).collect()
    }

    /// Returns what waits for this Subscription by the counts, how often the counts have changed, and the revision of
    /// the base.
    pub(crate) fn waiting(&self, uid: &SubscriptionUid) -> Option<(Waiting, u64, u64)> {
        let state = self.state.lock();
        let known = state.known.get(uid)?;
        let waiting = Summary::waiting(known.base.as_ref(), &known.counts);
        Some((waiting, known.changes, known.base_revision))
    }

    pub(crate) fn read(&self, uid: &SubscriptionUid, now: Timestamp) -> Option<Reading> {
        let state = self.state.lock();
        let known = state.known.get(uid)?;
        Some(Reading {
            object: known.object.clone()?,
            summary: Summary::of(known.base.as_ref(), &known.counts, now),
            disabled: known.disabled.clone(),
            progress: known.progress.clone(),
            rests: known.rests,
        })
    }
}

impl State {
    fn put_counts(&mut self, key: &str, value: &[u8], revision: u64) {
        let Some((uid, incarnation)) = names::parse_health_key(key) else { return };
        if self.gone.contains_key(&uid) {
            self.late.push(key.to_owned());
            return;
        }
        let known = self.known.entry(uid.clone()).or_default();
        let read = if incarnation == BASE {
            record::decode::<BaseCounts>(value).map(|base| {
                known.base = Some(base);
                known.base_revision = revision;
            })
        } else {
            record::decode::<DeliveryCounts>(value)
                .map(|counts| drop(known.counts.insert(incarnation.to_owned(), counts)))
        };
        match read {
            Ok(()) => {
                known.changes += 1;
                self.agenda.changed(uid);
            }
            Err(error) => {
                warn!(key, error = logging::chain(&error), "can't read counts");
                if matches!(error, RecordError::NoRecord(_)) && incarnation != BASE {
                    // It goes with the others of its dispatcher.
                    known.counts.entry(incarnation.to_owned()).or_default();
                }
            }
        }
    }
}
