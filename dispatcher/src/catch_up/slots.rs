//! The slots of this dispatcher: leases in the bucket of leases, taken and renewed by compare-and-set. The
//! dispatcher that has the slot of a Subscription does its owned work.
//!
//! A lease counts for [`TTL`] from the moment at which it was seen, by this dispatcher's monotonic clock, and its holder
//! trusts it for [`TRUST`] only. So a slot has one holder at a time, but for a holder that is stopped in the middle of a
//! step. Such a step is a compare-and-set, or sends something twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{LEASES_BUCKET, parse_incarnation_key, parse_slot_key, slot_key};
use hookwright_core::position::slots::{slot, surplus, wanted};
use hookwright_core::record::lease::{BucketRevision, DispatcherLease, RENEW, SlotLease, TRUST, TTL};
use hookwright_core::record::{RecordError, VERSION, decode, encode};
use hookwright_runtime::bucket::{Bucket, BucketError};
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::mirror::{Change, Mirror};
use hookwright_runtime::nats::Nats;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::liveness::Liveness;

/// A live dispatcher.
#[derive(Debug)]
struct Dispatcher {
    /// How far it has loaded the positions.
    positions: Option<BucketRevision>,
    revision: u64,
    seen: Instant,
}

/// The lease of a slot.
#[derive(Debug)]
struct Taken {
    dispatcher: String,
    revision: u64,
    seen: Instant,
}

/// A slot that this dispatcher has.
#[derive(Debug, Clone, Copy)]
struct Owned {
    revision: u64,
    /// When the last confirmed renewal began.
    confirmed: Instant,
}

#[derive(Debug, Default)]
struct State {
    dispatchers: HashMap<String, Dispatcher>,
    taken: HashMap<u8, Taken>,
    owned: BTreeMap<u8, Owned>,
    /// Since when the leases are watched without a gap; `None` before.
    watched: Option<Instant>,
}

impl State {
    /// Takes a change of the leases. Returns whether it changes who has a slot, which dispatchers are alive, or what they
    /// have loaded.
    fn apply(&mut self, change: Change, seen: Instant) -> bool {
        match change {
            Change::Put { key, value, revision } => match parse_slot_key(&key) {
                Some(slot) => {
                    let dispatcher = decode::<SlotLease>(&value).map(|lease| lease.dispatcher).unwrap_or_default();
                    let taken = Taken { dispatcher, revision, seen };
                    let changed = |former: &Taken| former.dispatcher != taken.dispatcher;
                    let changed = self.taken.get(&slot).is_none_or(changed);
                    self.taken.insert(slot, taken);
                    changed
                }
                None => {
                    let lease = decode::<DispatcherLease>(&value);
                    // No dispatcher has written it.
                    if parse_incarnation_key(&key).is_none() || matches!(lease, Err(RecordError::NoRecord(_))) {
                        return false;
                    }
                    // A lease that can't be read is of a dispatcher that lives, and may have loaded nothing.
                    let positions = lease.ok().and_then(|lease| lease.positions);
                    let former = self.dispatchers.insert(key, Dispatcher { positions, revision, seen });
                    former.is_none_or(|former| former.positions != positions)
                }
            },
            Change::Delete { key } => match parse_slot_key(&key) {
                Some(slot) => self.taken.remove(&slot).is_some(),
                None => self.dispatchers.remove(&key).is_some(),
            },
            // The bucket is in memory. It is empty after a restart of NATS, but the dispatchers live on.
            Change::Vanished { .. } => false,
            Change::Loaded(_) => {
                let is_first = self.watched.is_none();
                self.watched.get_or_insert(seen);
                is_first
            }
            Change::Behind => self.watched.take().is_some(),
        }
    }
}

/// The slots, and which dispatchers are alive.
pub(crate) struct Slots {
    nats: Nats,
    liveness: Arc<Liveness>,
    incarnation: String,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    complaints: Seldom,
}

impl Slots {
    pub(crate) fn new(nats: Nats, liveness: Arc<Liveness>, incarnation: String) -> Arc<Self> {
        let (changed, complaints) = (watch::Sender::new(()), Seldom::default());
        Arc::new(Self { nats, liveness, incarnation, state: Mutex::default(), changed, complaints })
    }

    /// Whether this dispatcher may do the owned work of the Subscription now.
    pub(crate) fn owns(&self, subscription: &SubscriptionUid) -> bool {
        let owned = self.state().owned.get(&slot(subscription)).copied();
        self.liveness.is_live() && owned.is_some_and(|owned| owned.confirmed.elapsed() < TRUST)
    }

    /// The creation of the bucket of which all live dispatchers have loaded the positions up to this revision, if that is so.
    /// It is not known before the leases were watched for [`TTL`], nor while the mirror of the leases may lag: this
    /// dispatcher's own lease, which says the same, has to have come lately. All leases that were written before it have
    /// come, too.
    pub(crate) fn loaded_by_all(&self, revision: u64) -> Option<Timestamp> {
        let state = self.state();
        let own = state.dispatchers.get(&self.incarnation).filter(|own| own.seen.elapsed() < TTL - TRUST)?;
        let goal = BucketRevision { revision, ..own.positions? };
        let mut live = state.dispatchers.values().filter(|dispatcher| dispatcher.seen.elapsed() < TTL);
        let loaded = state.watched.is_some_and(|since| since.elapsed() >= TTL)
            && live.all(|live| live.positions.is_some_and(|loaded| loaded.has_reached(goal)));
        loaded.then_some(goal.created)
    }

    /// How many dispatchers are alive, at least this one.
    pub(crate) fn live(&self) -> usize {
        self.state().dispatchers.values().filter(|dispatcher| dispatcher.seen.elapsed() < TTL).count().max(1)
    }

    /// A receiver that is notified when leases change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Follows the leases, for as long as the process runs.
    pub(crate) async fn follow(self: Arc<Self>) {
        Mirror::new(self.nats.clone(), LEASES_BUCKET, ">").run(|change| self.apply(change)).await;
    }

    /// Takes, renews and gives up slots, for as long as the process runs.
    pub(crate) async fn keep(self: Arc<Self>) {
        loop {
            let before = self.owned();
            if !self.liveness.is_live() {
                self.state().owned.clear();
                self.liveness.live().await;
            }
            match timeout(TRUST, self.round()).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) if self.complaints.now() => {
                    warn!(error = chain(&failure), "can't renew the leases of slots; retrying");
                }
                _ => {}
            }
            self.notify(self.owned() != before);
            tokio::time::sleep(RENEW / 2).await;
        }
    }

    fn owned(&self) -> BTreeSet<u8> {
        self.state().owned.keys().copied().collect()
    }

    /// Gives up all slots, so that others take them at once.
    pub(crate) async fn leave(&self) {
        let owned = std::mem::take(&mut self.state().owned);
        let Ok(bucket) = Bucket::named(&self.nats, LEASES_BUCKET).await else { return };
        for (slot, Owned { revision, .. }) in owned {
            // If the removal fails, the lease expires.
            let _ = bucket.remove_at(&slot_key(slot), revision).await;
        }
    }

    async fn round(&self) -> Result<(), BucketError> {
        let bucket = Bucket::named(&self.nats, LEASES_BUCKET).await?;
        let (live, owned, taken) = {
            let mut state = self.state();
            state.dispatchers.retain(|_, dispatcher| dispatcher.seen.elapsed() < TTL);
            state.taken.retain(|_, taken| taken.seen.elapsed() < TTL);
            let others = state.taken.iter().filter(|(_, taken)| taken.dispatcher != self.incarnation);
            let taken: BTreeSet<u8> = others.map(|(slot, _)| *slot).collect();
            (state.dispatchers.len(), state.owned.clone(), taken)
        };
        let slots: BTreeSet<u8> = owned.keys().copied().collect();
        let surplus: BTreeSet<u8> = surplus(&slots, live).collect();
        for (slot, Owned { revision, confirmed }) in owned {
            if surplus.contains(&slot) {
                self.state().owned.remove(&slot);
                bucket.remove_at(&slot_key(slot), revision).await?;
                debug!(slot, "gave up a slot");
            } else if confirmed.elapsed() >= RENEW {
                self.write(&bucket, slot, revision).await?;
            }
        }
        if self.state().watched.is_none_or(|since| since.elapsed() < TTL) {
            return Ok(());
        }
        let offset = self.incarnation.bytes().fold(0, u8::wrapping_add);
        let wanted: Vec<u8> = wanted(&slots, &taken, live, offset).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let newest = bucket.last(&self.incarnation).await?;
        if self.state().dispatchers.get(&self.incarnation).is_none_or(|own| own.revision < newest) {
            // The mirror lags. What is missing in it may be alive.
            return Ok(());
        }
        for slot in wanted {
            let revision = bucket.last(&slot_key(slot)).await?;
            if self.state().taken.get(&slot).is_none_or(|taken| taken.revision >= revision) {
                self.write(&bucket, slot, revision).await?;
            }
        }
        Ok(())
    }

    /// Writes the lease of a slot if it is still at this revision. If it is not, another dispatcher has the slot.
    async fn write(&self, bucket: &Bucket, slot: u8, revision: u64) -> Result<(), BucketError> {
        let confirmed = Instant::now();
        let lease = SlotLease { version: VERSION, dispatcher: self.incarnation.clone() };
        let Ok(value) = encode(&lease) else { return Ok(()) };
        let stored = bucket.put_at(&slot_key(slot), value.into(), revision).await?;
        let mut state = self.state();
        match stored {
            Some(revision) if state.owned.insert(slot, Owned { revision, confirmed }).is_none() => {
                debug!(slot, "took a slot");
            }
            Some(_) => {}
            None => drop(state.owned.remove(&slot)),
        }
        Ok(())
    }

    fn apply(&self, change: Change) {
        let changed = self.state().apply(change, Instant::now());
        self.notify(changed);
    }

    /// A lease is renewed again and again. Only what a reader may go on with wakes it.
    fn notify(&self, changed: bool) {
        self.changed.send_if_modified(|()| changed);
    }

    // A poisoned lock means a panic between two changes of maps, which are whole then.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_wakes_nobody() {
        let mut state = State::default();
        let mut apply = |change| state.apply(change, Instant::now());
        let put = |key: &str, value: Vec<u8>| Change::Put { key: key.into(), value: value.into(), revision: 1 };
        let slot = |dispatcher: &str| {
            put("slot.7", encode(&SlotLease { version: VERSION, dispatcher: dispatcher.into() }).unwrap())
        };
        let lease = |revision| {
            let positions = Some(BucketRevision { created: Timestamp::UNIX_EPOCH, revision });
            put("a", encode(&DispatcherLease { version: VERSION, positions, ..DispatcherLease::default() }).unwrap())
        };
        let loaded = || Change::Loaded(BucketRevision { created: Timestamp::UNIX_EPOCH, revision: 1 });
        for (change, wakes) in [
            (loaded(), true),
            (loaded(), false),
            (slot("a"), true),
            (slot("a"), false),
            (slot("b"), true),
            (lease(1), true),
            (lease(1), false),
            (lease(2), true),
            (put("b", b"hostile".to_vec()), false),
            (put("b.c", br#"{"version":2}"#.to_vec()), false),
            (put("b", br#"{"version":2}"#.to_vec()), true),
            (Change::Delete { key: "b".into() }, true),
            (Change::Vanished { key: "a".into() }, false),
            (Change::Delete { key: "slot.7".into() }, true),
            (Change::Delete { key: "a".into() }, true),
            (Change::Delete { key: "a".into() }, false),
            (Change::Behind, true),
            (Change::Behind, false),
        ] {
            let what = format!("{change:?}");
            assert_eq!(apply(change), wakes, "{what}");
        }
    }
}
