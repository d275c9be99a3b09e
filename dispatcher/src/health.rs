//! Delivery health: counts in memory, written to the health bucket off the hot path. A failed write stops no delivery.

mod writer;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookwright_core::delivery::health::{DeliveryCounts, GivenUp, LastAttempt, Pending, Waiting};
use hookwright_core::delivery::progress::Progress;
use hookwright_core::delivery::quota::{Known, ParkQuota, Room};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::record::VERSION;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) use writer::HealthWriter;

/// How often a subscription's counts are written, unless something turned.
const EVERY: Duration = Duration::from_secs(5);
/// The shortest time between two writes, should much turn.
const URGENT_EVERY: Duration = Duration::from_secs(1);
/// Due times remembered for each subscription: enough to name the next one.
const DUE: usize = 32;
/// Waiting deliveries remembered for each subscription: enough to name the oldest, unless more than this are retried at
/// once.
const WAITING: usize = 1_000;

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
    /// When the deliveries that this dispatcher parked are due, until then.
    due: BTreeSet<Timestamp>,
    /// The oldest of them.
    waiting: BTreeSet<Pending>,
    /// What the others had parked at the last look, and when that was.
    elsewhere: Waiting,
    looked: Option<Instant>,
    /// What this dispatcher has parked since.
    parked_since: Waiting,
    /// The writer has it on its list.
    queued: bool,
    /// Something is not written.
    dirty: bool,
    /// It is to be written at once.
    urgent: bool,
    written: Option<Instant>,
}

/// What the writer does with a cell.
#[derive(Debug)]
pub(crate) enum Take {
    /// Writes this now.
    Write(Box<DeliveryCounts>),
    /// Looks again.
    Later,
    /// Nothing, until something changes.
    Rest,
}

impl HealthCell {
    /// An attempt was made.
    pub(crate) fn attempt(self: &Arc<Self>, attempt: LastAttempt) {
        self.change(|state| state.counts.attempt(attempt));
    }

    /// Whose counts these are.
    pub(crate) fn uid(&self) -> &SubscriptionUid {
        &self.uid
    }

    /// Counts a delivery among what waits, if there is room; told to look, the caller does, and asks again.
    pub(crate) fn admit(self: &Arc<Self>, quota: ParkQuota, delivery: Waiting, now: Instant) -> Room {
        let mut room = Room::Free;
        self.change(|state| {
            room = quota.room(Known {
                own: state.counts.tally.waiting(),
                elsewhere: state.elsewhere,
                parked_since: state.parked_since,
                age: state.looked.map(|looked| now.duration_since(looked)),
            });
            match room {
                Room::Free => {
                    state.counts.tally.wait(delivery);
                    state.parked_since = state.parked_since.plus(delivery);
                    state.counts.tally.retrying == 1
                }
                // From now on, so that one looks, not all who ask meanwhile. The others will look, too: they are told.
                Room::Look => {
                    state.looked = Some(now);
                    state.parked_since = Waiting::default();
                    true
                }
                Room::UsedUp => false,
            }
        });
        room
    }

    /// What the others have parked, by a look.
    pub(crate) fn looked(&self, elsewhere: Waiting) {
        self.state().elsewhere = elsewhere;
    }

    /// The delivery of an event that was published at `since` waits until `at`.
    pub(crate) fn parked(self: &Arc<Self>, since: Timestamp, at: Timestamp) {
        self.change(|state| {
            state.due.insert(at);
            if state.due.len() > DUE {
                state.due.pop_last();
            }
            state.waiting.insert(Pending { since, due: at });
            if state.waiting.len() > WAITING {
                state.waiting.pop_last();
            }
            state.counts.tally.retrying == 1
        });
    }

    /// A delivery has succeeded that was counted among what waits.
    pub(crate) fn done(self: &Arc<Self>, waited: Waiting) {
        self.change(|state| {
            state.counts.tally.wait(waited.negated());
            state.counts.tally.retrying == 0
        });
    }

    /// A delivery was given up at that time, after that progress; `waited` is what it was counted for among what waits.
    pub(crate) fn gave_up(self: &Arc<Self>, time: Timestamp, waited: Waiting, progress: &Progress) {
        let last = progress.history.last();
        let given_up = GivenUp {
            time,
            outcome: last.map(|attempt| attempt.outcome),
            http_status: last.and_then(|attempt| attempt.http_status),
            attempts: progress.attempts,
        };
        self.change(|state| {
            state.counts.gave_up(given_up);
            state.counts.tally.wait(waited.negated());
            true
        });
    }

    /// `change` returns whether something turned, which is written at once.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state();
        let turned = change(&mut state);
        state.urgent |= turned;
        state.dirty = true;
        if !state.queued {
            state.queued = true;
            // The writer lives as long as the process.
            let _ = self.dirty.send(Arc::clone(self));
        }
    }

    /// What to write at this time, if anything. While something waits, its cell stays with the writer: what is due next
    /// changes as time passes.
    fn take(&self, now: Instant, wall: Timestamp, force: bool) -> Take {
        let mut state = self.state();
        state.due.retain(|at| *at >= wall);
        state.waiting.retain(|pending| pending.due >= wall);
        let (next, oldest) = (state.due.first().copied(), state.waiting.first().copied());
        state.dirty |= state.counts.next_attempt != next || state.counts.oldest_pending != oldest;
        if !state.dirty {
            state.queued = next.is_some() || oldest.is_some();
            return if state.queued { Take::Later } else { Take::Rest };
        }
        let pause = if state.urgent { URGENT_EVERY } else { EVERY };
        if !force && state.written.is_some_and(|written| now.duration_since(written) < pause) {
            return Take::Later;
        }
        state.dirty = false;
        state.urgent = false;
        state.written = Some(now);
        state.counts.version = VERSION;
        state.counts.next_attempt = next;
        state.counts.oldest_pending = oldest;
        Take::Write(Box::new(state.counts.clone()))
    }

    /// It has turned, or the operator compares what waits with the stream.
    fn presses(&self) -> bool {
        let state = self.state();
        state.urgent || state.counts.tally.retrying != 0
    }

    /// Not in the writer's hands any more, until the next change.
    fn rest(&self) {
        self.state().queued = false;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    fn cell() -> Arc<HealthCell> {
        let (health, _changed) = Health::new();
        health.cell(&SubscriptionUid::parse("s-1").unwrap())
    }

    fn written(take: Take) -> DeliveryCounts {
        match take {
            Take::Write(counts) => *counts,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_turns_is_written_at_once_and_the_rest_every_five_seconds() {
        let (cell, start, wall) = (cell(), Instant::now(), Timestamp::UNIX_EPOCH);
        let take = |millis, force| cell.take(start + Duration::from_millis(millis), wall, force);
        cell.change(|_| false);
        assert!(matches!(take(0, false), Take::Write(_)), "the first after quiet");
        assert!(matches!(take(0, false), Take::Rest));
        cell.change(|_| false);
        assert!(matches!(take(4900, false), Take::Later));
        cell.change(|_| true);
        assert!(matches!(take(4900, false), Take::Write(_)), "a turn");
        cell.change(|_| true);
        assert!(matches!(take(5100, false), Take::Later), "many turns");
        assert!(matches!(take(5100, true), Take::Write(_)), "the last write of all");
        cell.change(|_| true);
        assert!(matches!(take(6100, false), Take::Write(_)));
    }

    #[test]
    fn what_waits_is_followed_until_it_is_due() {
        let (cell, start, wall) = (cell(), Instant::now(), Timestamp::UNIX_EPOCH);
        let after = |seconds| wall + SignedDuration::from_secs(seconds);
        let take = |seconds: u64, wall| cell.take(start + Duration::from_secs(seconds), wall, false);
        let delivery = Waiting { deliveries: 1, bytes: 7 };
        for (since, at) in [(-5, 10), (-9, 20)] {
            assert_eq!(cell.admit(ParkQuota::default(), delivery, start), Room::Free);
            cell.parked(after(since), after(at));
        }
        let first = written(take(0, wall));
        assert_eq!((first.tally.retrying, first.tally.retrying_bytes), (2, 14));
        assert_eq!(first.next_attempt, Some(after(10)));
        assert_eq!(first.oldest_pending, Some(Pending { since: after(-9), due: after(20) }));
        assert!(matches!(take(5, after(5)), Take::Later));
        assert_eq!(written(take(11, after(11))).next_attempt, Some(after(20)), "the next, without any change");
        let last = written(take(21, after(21)));
        assert_eq!((last.next_attempt, last.oldest_pending), (None, None));
        assert!(matches!(take(26, after(26)), Take::Rest));
    }

    #[test]
    fn one_looks_for_all_that_ask() {
        let (cell, now) = (cell(), Instant::now());
        let quota = ParkQuota { deliveries: 20, bytes: u64::MAX };
        let admit = || cell.admit(quota, Waiting { deliveries: 1, bytes: 1 }, now);
        assert_eq!([admit(), admit(), admit(), admit()], [Room::Free, Room::Free, Room::Look, Room::Free]);
        cell.looked(Waiting { deliveries: 17, bytes: 17 });
        assert_eq!(admit(), Room::UsedUp);
        cell.done(Waiting { deliveries: 1, bytes: 1 });
        assert_eq!([admit(), admit()], [Room::Free, Room::Look], "a tenth since the look");
        assert_eq!(admit(), Room::UsedUp, "until it is answered, what was known holds");
        assert_eq!(cell.state().counts.tally.waiting(), Waiting { deliveries: 3, bytes: 3 });
    }
}
