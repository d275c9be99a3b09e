//! Which dispatchers are alive, and up to which revisions of the config and of the positions each has loaded.
//!
//! A lease counts for `lease::TTL` from the moment at which the operator saw it, by the operator's monotonic clock.
//! NATS drops old leases without a message.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::parse_incarnation_key;
use hookwright_core::record::lease::{BucketRevision, DispatcherLease, Keeps, TTL};
use hookwright_core::record::{self, Feature, RecordError};
use hookwright_runtime::logging;
use hookwright_runtime::mirror::Change;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::cache::shared::Shared;

/// What the live dispatchers have to have loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The config up to this revision.
    Config(u64),
    /// The positions up to this revision of their bucket.
    Positions(BucketRevision),
}

/// How far the rollout of a record to the live dispatchers has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rollout {
    /// No dispatcher is alive.
    NoDispatchers,
    /// No live dispatcher serves the Producer, as each can't use one of its records.
    Unserved { live: usize },
    /// Some live dispatchers have not loaded the revision.
    Waiting { behind: usize, live: usize },
    /// The record is not written, as some live dispatchers can't read this feature of it.
    Unread { feature: Feature, lacking: usize, live: usize },
    /// All dispatchers that the operator knows of have loaded the revision, but there may be others.
    Unheard,
    /// All live dispatchers have loaded the revision.
    Loaded,
}

#[derive(Debug, Clone)]
struct Lease {
    config: u64,
    positions: Option<BucketRevision>,
    unserved: Vec<ProducerUid>,
    features: Vec<String>,
    keeps: Option<Keeps>,
    /// The digest of the egress rules that the dispatcher goes by, if it tells.
    egress: Option<String>,
    seen: Instant,
}

impl Lease {
    /// A dispatcher that doesn't serve the Producer acks none of its events, so it may have any view of the positions.
    fn has_reached(&self, goal: Goal, producer: &ProducerUid) -> bool {
        match goal {
            Goal::Config(revision) => self.config >= revision && !self.unserved.contains(producer),
            Goal::Positions(goal) => self.positions.is_some_and(|loaded| loaded.has_reached(goal)),
        }
    }
}

#[derive(Default)]
struct State {
    leases: HashMap<String, Lease>,
    /// The most that a live dispatcher keeps in NATS, as it was when one was alive.
    keeps: Option<Keeps>,
    /// The epoch of the connection and the revision up to which the mirror has reported everything.
    loaded: Option<(u64, u64)>,
}

impl State {
    fn live(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values().filter(|lease| lease.seen.elapsed() < TTL)
    }

    /// Each dispatcher may keep as much as its own settings say.
    fn kept(&self) -> Option<Keeps> {
        let most = |a: Keeps, b: Keeps| Keeps {
            parked: a.parked.max(b.parked),
            dead_letters: a.dead_letters.max(b.dead_letters),
        };
        self.live().filter_map(|lease| lease.keeps).reduce(most)
    }

    fn unserved(&self) -> HashSet<ProducerUid> {
        let everywhere = |producer: &&ProducerUid| self.live().all(|lease| lease.unserved.contains(producer));
        let first = self.live().next();
        first.into_iter().flat_map(|lease| &lease.unserved).filter(everywhere).cloned().collect()
    }
}

/// The leases as the mirror reports them.
pub(crate) struct Leases {
    state: Shared<State>,
    changed: watch::Sender<()>,
}

impl Default for Leases {
    fn default() -> Self {
        Self { state: Shared::default(), changed: watch::Sender::new(()) }
    }
}

impl Leases {
    /// Takes a change of the lease bucket that was reported in this epoch of the connection.
    pub(crate) fn apply(&self, change: Change, epoch: u64) {
        match change {
            // Whose a slot is doesn't concern the operator.
            Change::Put { key, .. } | Change::Delete { key } if parse_incarnation_key(&key).is_none() => {}
            Change::Put { key, value, .. } => self.put(key, &value),
            Change::Delete { key } => drop(self.state.lock().leases.remove(&key)),
            // The bucket is in memory. It is empty after a restart of NATS, but the dispatchers live on.
            Change::Vanished { .. } => {}
            Change::Loaded(loaded) => self.state.lock().loaded = Some((epoch, loaded.revision)),
            Change::Behind => self.state.lock().loaded = None,
        }
        self.changed.send_replace(());
    }

    fn put(&self, dispatcher: String, value: &[u8]) {
        let lease = record::decode(value).or_else(|error| {
            warn!(dispatcher, error = logging::chain(&error), "can't read a lease");
            match error {
                // No dispatcher has written it.
                RecordError::NoRecord(_) => Err(()),
                // The dispatcher is alive, but nobody knows what it has loaded. Nothing becomes Programmed before its
                // lease can be read.
                _ => Ok(DispatcherLease::default()),
            }
        });
        let Ok(lease) = lease else { return };
        let DispatcherLease { revision: config, positions, unserved, features, keeps, egress, .. } = lease;
        let lease = Lease { config, positions, unserved, features, keeps, egress, seen: Instant::now() };
        let mut state = self.state.lock();
        state.leases.insert(dispatcher, lease);
        state.keeps = state.kept().or(state.keeps);
    }

    /// Returns a receiver that sees each change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns how many dispatchers are alive.
    pub(crate) fn live(&self) -> usize {
        self.state.lock().live().count()
    }

    /// Returns whether the leases were read and no dispatcher is alive.
    pub(crate) fn is_none_live(&self) -> bool {
        let loaded = self.state.lock().loaded.is_some();
        loaded && self.live() == 0
    }

    /// Returns whether this dispatcher is alive, or none before the leases were read.
    pub(crate) fn is_live(&self, dispatcher: &str) -> Option<bool> {
        let state = self.state.lock();
        state.loaded?;
        Some(state.leases.get(dispatcher).is_some_and(|lease| lease.seen.elapsed() < TTL))
    }

    /// Forgets the leases that have run out. Returns when the next one runs out.
    pub(crate) fn expire(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        state.leases.retain(|_, lease| lease.seen.elapsed() < TTL);
        state.leases.values().map(|lease| lease.seen + TTL).min()
    }

    /// Returns how much the dispatchers keep in NATS, or none if none has told.
    pub(crate) fn keeps(&self) -> Option<Keeps> {
        self.state.lock().keeps
    }

    /// Returns the live dispatchers that go by other egress rules than those with this digest.
    pub(crate) fn with_other_rules(&self, digest: &str) -> HashSet<String> {
        let state = self.state.lock();
        let is_other = |lease: &Lease| lease.egress.as_ref().is_some_and(|egress| egress != digest);
        let others = state.leases.iter().filter(|(_, lease)| lease.seen.elapsed() < TTL && is_other(lease));
        others.map(|(dispatcher, _)| dispatcher.clone()).collect()
    }

    /// Returns the Producers that no live dispatcher serves.
    pub(crate) fn unserved(&self) -> HashSet<ProducerUid> {
        self.state.lock().unserved()
    }

    /// Returns how far the live dispatchers have come with a goal that concerns this Producer.
    pub(crate) fn rollout(&self, goal: Goal, producer: &ProducerUid) -> Rollout {
        let state = self.state.lock();
        let behind = state.live().filter(|lease| !lease.has_reached(goal, producer)).count();
        let is_config = matches!(goal, Goal::Config(_));
        match (state.live().count(), behind) {
            (0, _) => Rollout::NoDispatchers,
            (_, 0) => Rollout::Loaded,
            (live, _) if is_config && state.unserved().contains(producer) => Rollout::Unserved { live },
            (live, behind) => Rollout::Waiting { behind, live },
        }
    }

    /// Returns why a record with these features can't be written yet, or none if all live dispatchers read them.
    pub(crate) fn unread(&self, features: &[Feature]) -> Option<Rollout> {
        if features.is_empty() {
            return None;
        }
        let state = self.state.lock();
        if state.loaded.is_none() {
            return Some(Rollout::Unheard);
        }
        let live = state.live().count();
        let lacking = |feature: Feature| {
            let reads = |lease: &&Lease| lease.features.iter().any(|name| name == feature.name());
            live - state.live().filter(reads).count()
        };
        let unread = features.iter().map(|feature| (*feature, lacking(*feature))).find(|(_, lacking)| *lacking > 0);
        unread.map(|(feature, lacking)| Rollout::Unread { feature, lacking, live })
    }

    /// Waits for at most `limit` until all live dispatchers have reached the goal. Returns at once if none is alive.
    pub(crate) async fn settle(&self, goal: Goal, producer: &ProducerUid, limit: Duration) -> Rollout {
        let settled = || !matches!(self.rollout(goal, producer), Rollout::Waiting { .. });
        self.wait(limit, settled).await;
        self.rollout(goal, producer)
    }

    /// Waits for at most `limit` until the mirror has reported what the bucket held at `revision` in this epoch.
    pub(crate) async fn caught_up(&self, epoch: u64, revision: u64, limit: Duration) -> bool {
        let there = || self.state.lock().loaded.is_some_and(|(e, r)| e == epoch && r >= revision);
        self.wait(limit, there).await
    }

    async fn wait(&self, limit: Duration, condition: impl Fn() -> bool) -> bool {
        let mut changes = self.changes();
        let deadline = Instant::now() + limit;
        while !condition() {
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return condition();
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid() -> ProducerUid {
        ProducerUid::parse("p").unwrap()
    }

    fn at(revision: u64) -> BucketRevision {
        BucketRevision { created: jiff::Timestamp::UNIX_EPOCH, revision }
    }

    fn put(leases: &Leases, key: &str, revision: u64, unserved: &[ProducerUid]) {
        let positions = Some(at(revision / 2));
        let (version, unserved) = (record::VERSION, unserved.to_vec());
        let lease = DispatcherLease { version, revision, positions, unserved, ..DispatcherLease::default() };
        let value = record::encode(&lease).unwrap().into();
        leases.apply(Change::Put { key: key.into(), value, revision: 1 }, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_counts_until_it_runs_out() {
        let leases = Leases::default();
        let rollout = |revision| leases.rollout(Goal::Config(revision), &uid());
        assert_eq!(rollout(0), Rollout::NoDispatchers);
        put(&leases, "a", 5, &[]);
        tokio::time::advance(Duration::from_secs(6)).await;
        put(&leases, "b", 7, &[]);
        assert_eq!(rollout(5), Rollout::Loaded);
        assert_eq!(rollout(6), Rollout::Waiting { behind: 1, live: 2 });
        leases.apply(Change::Vanished { key: "a".into() }, 2);
        assert_eq!(rollout(6), Rollout::Waiting { behind: 1, live: 2 }, "alive, though the bucket is another one");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(rollout(6), Rollout::Loaded, "a has run out");
        put(&leases, "b", 7, &[uid()]);
        assert_eq!(rollout(6), Rollout::Unserved { live: 1 }, "loaded, but not served");
        assert_eq!(rollout(8), Rollout::Unserved { live: 1 }, "and not about to be");
        assert_eq!(leases.unserved(), HashSet::from([uid()]));
        assert!(leases.expire().is_some());
        assert_eq!(leases.live(), 1);
        for (key, value) in [("nobody", "{}"), ("c", r#"{"version":2}"#), ("c.d", r#"{"version":2}"#)] {
            leases.apply(Change::Put { key: key.into(), value: value.into(), revision: 2 }, 1);
        }
        put(&leases, "b", 7, &[]);
        assert_eq!(rollout(1), Rollout::Waiting { behind: 1, live: 2 }, "who can't be read holds all up");
        put(&leases, "c", 7, &[uid()]);
        assert_eq!(rollout(1), Rollout::Waiting { behind: 1, live: 2 }, "b serves it");
        assert_eq!(leases.unserved(), HashSet::new());
        put(&leases, "b", 7, &[ProducerUid::parse("q").unwrap(), uid()]);
        assert_eq!(leases.unserved(), HashSet::from([uid()]), "by neither");
    }

    #[tokio::test(start_paused = true)]
    async fn a_feature_waits_for_all_live_dispatchers() {
        let (leases, feature) = (Leases::default(), Feature::Validation);
        let reading = |key: &str, features: &[&str]| {
            let features = features.iter().map(|name| (*name).to_owned()).collect();
            let lease = DispatcherLease { version: record::VERSION, features, ..DispatcherLease::default() };
            let value = record::encode(&lease).unwrap().into();
            leases.apply(Change::Put { key: key.into(), value, revision: 1 }, 1);
        };
        assert_eq!(leases.unread(&[]), None);
        assert_eq!(leases.unread(&[feature]), Some(Rollout::Unheard), "the leases are not known yet");
        leases.apply(Change::Loaded(at(0)), 1);
        assert_eq!(leases.unread(&[feature]), None, "nobody is alive");
        reading("new", &["Later", feature.name()]);
        assert_eq!(leases.unread(&[feature]), None);
        reading("old", &["Earlier"]);
        assert_eq!(leases.unread(&[feature]), Some(Rollout::Unread { feature, lacking: 1, live: 2 }));
        leases.apply(Change::Put { key: "unreadable".into(), value: r#"{"version":2}"#.into(), revision: 2 }, 1);
        assert_eq!(leases.unread(&[feature]), Some(Rollout::Unread { feature, lacking: 2, live: 3 }));
        tokio::time::advance(TTL).await;
        assert_eq!(leases.unread(&[feature]), None, "none of them is alive any more");
    }

    #[tokio::test(start_paused = true)]
    async fn live_dispatchers_may_go_by_other_rules() {
        let leases = Leases::default();
        let going_by = |key: &str, egress: Option<&str>| {
            let egress = egress.map(str::to_owned);
            let lease = DispatcherLease { version: record::VERSION, egress, ..DispatcherLease::default() };
            let value = record::encode(&lease).unwrap().into();
            leases.apply(Change::Put { key: key.into(), value, revision: 1 }, 1);
        };
        going_by("same", Some("d-1"));
        going_by("older", None);
        assert_eq!(leases.with_other_rules("d-1"), HashSet::new(), "an older release doesn't tell");
        going_by("other", Some("d-2"));
        assert_eq!(leases.with_other_rules("d-1"), HashSet::from(["other".to_owned()]));
        assert_eq!(leases.with_other_rules("d-2"), HashSet::from(["same".to_owned()]));
        tokio::time::advance(TTL).await;
        assert_eq!(leases.with_other_rules("d-1"), HashSet::new(), "it is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn positions_count_for_themselves() {
        let leases = Leases::default();
        let rollout = |revision| leases.rollout(Goal::Positions(at(revision)), &uid());
        assert_eq!(rollout(0), Rollout::NoDispatchers);
        put(&leases, "a", 6, &[]);
        put(&leases, "b", 4, &[uid()]);
        assert_eq!(rollout(2), Rollout::Loaded, "a dispatcher that doesn't serve the Producer acks nothing of it");
        let anew = BucketRevision { created: jiff::Timestamp::MAX, revision: 1 };
        let rollout_anew = leases.rollout(Goal::Positions(anew), &uid());
        assert_eq!(rollout_anew, Rollout::Waiting { behind: 2, live: 2 }, "the bucket is another one");
        assert_eq!(rollout(3), Rollout::Waiting { behind: 1, live: 2 });
        put(&leases, "a", 4, &[uid()]);
        assert_eq!(rollout(3), Rollout::Waiting { behind: 2, live: 2 }, "nor does it matter that nobody serves it");
        let slot = Change::Put { key: "slot.7".into(), value: "{}".into(), revision: 9 };
        leases.apply(slot, 1);
        assert_eq!(leases.live(), 2, "a slot's lease is no dispatcher");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_loaded_before_a_reconnect_does_not_count() {
        let leases = Leases::default();
        let limit = Duration::from_secs(2);
        leases.apply(Change::Loaded(at(9)), 1);
        assert!(leases.caught_up(1, 9, limit).await);
        assert!(!leases.caught_up(2, 1, limit).await);
        leases.apply(Change::Loaded(at(1)), 2);
        assert!(leases.caught_up(2, 1, limit).await);
        assert!(!leases.caught_up(2, 9, limit).await);
    }
}
