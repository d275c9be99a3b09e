//! Delivery health: counts in memory, written to the health bucket off the hot path. A failed write stops no delivery.

mod writer;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookwright_core::delivery::health::{DeliveryCounts, GivenUp, LastAttempt, Pending, Waiting};
use hookwright_core::delivery::outcome::OutcomeKind;
use hookwright_core::delivery::progress::Progress;
use hookwright_core::delivery::quota::{Known, ParkQuota, Room};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::record::VERSION;
use hookwright_core::select::filter::Verdict;
use jiff::Timestamp;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, mpsc};
use tokio::time::Instant;

pub(crate) use writer::HealthWriter;

/// The shortest time between two writes of a Subscription's counts, unless the endpoint's health may have turned.
const EVERY: Duration = Duration::from_secs(5);
/// The shortest time between two writes, however often the health may turn.
const URGENT_EVERY: Duration = Duration::from_secs(1);
/// How many due times are remembered for each Subscription: enough to name the next one.
const DUE: usize = 32;
/// How many waiting deliveries are remembered for each Subscription: enough to name the oldest, unless more than this
/// are retried at the same time.
const WAITING: usize = 1_000;

/// The counts of one Subscription at this dispatcher.
#[derive(Debug)]
pub(crate) struct HealthCell {
    uid: SubscriptionUid,
    state: Mutex<State>,
    /// Held during a look, so that one looks for all that ask.
    looking: AsyncMutex<()>,
    dirty: mpsc::UnboundedSender<Arc<HealthCell>>,
}

#[derive(Debug, Default)]
struct State {
    counts: DeliveryCounts,
    /// When deliveries that this dispatcher parked are due, until they are: the next [`DUE`].
    due: BTreeSet<Timestamp>,
    /// The parked deliveries with the oldest events, until they are due.
    waiting: BTreeSet<Pending>,
    /// How much the other dispatchers had parked at the last look.
    elsewhere: Waiting,
    /// When the last look was; `None` if there was none.
    looked: Option<Instant>,
    /// How much this dispatcher has parked since that look.
    parked_since: Waiting,
    /// Whether the cell is on the writer's list.
    queued: bool,
    /// Whether a change is not written yet.
    dirty: bool,
    /// Whether the counts are to be written at once.
    urgent: bool,
    written: Option<Instant>,
}

/// What the writer does with a cell.
#[derive(Debug)]
pub(crate) enum Take {
    /// Write these counts now.
    Write(Box<DeliveryCounts>),
    /// Look at the cell again later.
    Later,
    /// Do nothing until the next change.
    Rest,
}

impl HealthCell {
    /// Counts an attempt. Returns whether the endpoint fails from this attempt on, by what this dispatcher has seen.
    pub(crate) fn attempt(self: &Arc<Self>, attempt: LastAttempt) -> bool {
        let mut turns = false;
        self.change(|state| {
            turns = attempt.outcome != OutcomeKind::Delivered && state.counts.turns_at(attempt.time);
            state.counts.attempt(attempt)
        });
        turns
    }

    /// Counts the first attempt at a parked delivery.
    pub(crate) fn attempted(self: &Arc<Self>) {
        self.change(|state| {
            state.counts.tally.wait(Waiting { unattempted: -1, ..Waiting::default() });
            false
        });
    }

    /// The Subscription whose counts these are.
    pub(crate) fn uid(&self) -> &SubscriptionUid {
        &self.uid
    }

    /// Counts a delivery as waiting, if the quota has room. If the answer is [`Room::Look`], the caller looks and asks
    /// again.
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
                // The other dispatchers will look, too, so this one's counts are written at once.
                Room::Look => true,
                Room::UsedUp => false,
            }
        });
        room
    }

    /// Waits until no one looks. Returns the right to look, or nothing if another caller has looked meanwhile.
    pub(crate) async fn look(&self) -> Option<AsyncMutexGuard<'_, ()>> {
        let before = self.state().looked;
        let right = self.looking.lock().await;
        (self.state().looked == before).then_some(right)
    }

    /// Takes the result of a look: how much the other dispatchers have parked. After a look that failed, what was known
    /// before is used.
    pub(crate) fn looked(&self, elsewhere: Option<Waiting>, now: Instant) {
        let mut state = self.state();
        state.elsewhere = elsewhere.unwrap_or(state.elsewhere);
        state.looked = Some(now);
        state.parked_since = Waiting::default();
    }

    /// Remembers that the delivery of an event, which was published at `since`, waits until `at`.
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

    /// Counts a delivery that has succeeded. `waited` is the amount that it counted for as waiting.
    pub(crate) fn done(self: &Arc<Self>, waited: Waiting) {
        self.change(|state| {
            state.counts.tally.wait(waited.negated());
            state.counts.tally.retrying == 0
        });
    }

    /// Notes that all of an event's data was withheld at `time`.
    pub(crate) fn withheld(self: &Arc<Self>, time: Timestamp) {
        self.change(|state| state.counts.last_withheld.replace(time).is_none());
    }

    /// Counts a delivery that the Producer forbids. `waited` is the amount that it counted for as waiting.
    pub(crate) fn forbidden(self: &Arc<Self>, waited: Waiting) {
        self.change(|state| {
            state.counts.tally.forbidden += 1;
            state.counts.tally.wait(waited.negated());
            state.counts.tally.forbidden == 1
        });
    }

    /// Counts a delivery that was given up at `time`, after this progress. `waited` is the amount that it counted for
    /// as waiting.
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

    /// Counts an event that the filters of a generation of the Subscription were evaluated for. `id` returns the event's
    /// id. The first failure is written at once.
    pub(crate) fn filtered(
        self: &Arc<Self>,
        generation: i64,
        now: Timestamp,
        verdict: Verdict,
        id: impl FnOnce() -> String,
    ) {
        self.change(|state| state.counts.filters.get_or_insert_default().count(generation, now, verdict, id));
    }

    /// Counts events that were passed over because they lack what a filter of this generation wants.
    pub(crate) fn passed_over(self: &Arc<Self>, generation: i64, now: Timestamp, entry: usize, events: u64) {
        self.change(|state| {
            state.counts.filters.get_or_insert_default().pass_over(generation, now, entry, events);
            false
        });
    }

    /// Changes the state and puts the cell on the writer's list. If `change` returns true, the counts are written at
    /// once.
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

    /// What to write now, if anything. While a delivery waits, the cell stays on the writer's list, because the next
    /// due time changes as time passes.
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

    /// Whether the write must not wait for a tick with room: the health may have turned, or deliveries wait, whose
    /// number the operator compares with the stream.
    fn is_pressing(&self) -> bool {
        let state = self.state();
        state.urgent || state.counts.tally.retrying != 0
    }

    /// Takes the cell off the writer's list, until the next change.
    fn rest(&self) {
        self.state().queued = false;
    }

    // A poisoned lock means a panic between two counts, which are approximate across a crash anyway.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counts of this dispatcher for all Subscriptions.
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
            let (state, looking) = (Mutex::default(), AsyncMutex::default());
            Arc::new(HealthCell { uid: uid.clone(), state, looking, dirty: self.dirty.clone() })
        });
        Arc::clone(cell)
    }

    /// Removes the counts of deleted Subscriptions that nobody uses any more. Those of a Subscription that is merely
    /// missing stay: its counts must never go back.
    pub(crate) fn forget(&self, is_deleted: impl Fn(&SubscriptionUid) -> bool) {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.retain(|uid, cell| Arc::strong_count(cell) > 1 || !is_deleted(uid));
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

    fn waiting(deliveries: i64) -> Waiting {
        Waiting { deliveries, bytes: deliveries, unattempted: deliveries }
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
        let delivery = Waiting { deliveries: 1, bytes: 7, unattempted: 1 };
        for (since, at) in [(-5, 10), (-9, 20)] {
            assert_eq!(cell.admit(ParkQuota::default(), delivery, start), Room::Free);
            cell.parked(after(since), after(at));
        }
        let first = written(take(0, wall));
        assert_eq!((first.tally.retrying, first.tally.retrying_bytes, first.tally.unattempted), (2, 14, 2));
        assert_eq!(first.next_attempt, Some(after(10)));
        assert_eq!(first.oldest_pending, Some(Pending { since: after(-9), due: after(20) }));
        assert!(matches!(take(5, after(5)), Take::Later));
        assert_eq!(written(take(11, after(11))).next_attempt, Some(after(20)), "the next, without any change");
        let last = written(take(21, after(21)));
        assert_eq!((last.next_attempt, last.oldest_pending), (None, None));
        assert!(matches!(take(26, after(26)), Take::Rest));
    }

    #[tokio::test]
    async fn one_looks_for_all_that_ask() {
        let (cell, now) = (cell(), Instant::now());
        let quota = ParkQuota { deliveries: 20, bytes: u64::MAX };
        let admit = || cell.admit(quota, waiting(1), now);
        assert_eq!([admit(), admit(), admit(), admit()], [Room::Free, Room::Free, Room::Look, Room::Look]);
        let right = cell.look().await.unwrap();
        let mut other = Box::pin(cell.look());
        assert!(futures::poll!(&mut other).is_pending(), "the other waits for the answer");
        cell.looked(Some(waiting(17)), now);
        drop(right);
        assert!(other.await.is_none());
        assert_eq!(admit(), Room::Free);
        assert_eq!(admit(), Room::UsedUp);
        cell.done(waiting(1));
        assert_eq!([admit(), admit()], [Room::Free, Room::Look], "a tenth since the look");
        cell.looked(None, now);
        assert_eq!(admit(), Room::UsedUp, "a look that failed changes nothing");
        assert_eq!(cell.state().counts.tally.waiting(), waiting(3));
        cell.attempted();
        assert_eq!(cell.state().counts.tally.unattempted, 2);
    }

    #[test]
    fn the_counts_of_a_deleted_subscription_go_once_nobody_uses_them() {
        let (health, _changed) = Health::new();
        let [used, ..] = ["used", "gone", "missing"].map(|uid| health.cell(&SubscriptionUid::parse(uid).unwrap()));
        let left = || {
            health.forget(|uid| uid.as_str() != "missing");
            health.cells.lock().unwrap().keys().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(left().into_iter().collect::<Vec<_>>(), ["missing", "used"]);
        drop(used);
        assert_eq!(left().into_iter().collect::<Vec<_>>(), ["missing"]);
    }
}
