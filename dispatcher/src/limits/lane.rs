//! A Subscription's lane: how much of a dispatcher one endpoint can take. So a dead endpoint takes nothing from others.
//! Deliveries that won't have their turn in time leave the lane and are parked.
//!
//! **Under way.** A lane starts with few permits. It gets one more for each answer while deliveries wait, up to its
//! maximum, as TCP opens its window (RFC 5681, slow start). It gives back permits that it does not use (RFC 7661).
//! An attempt that waits for its answer takes up memory for its connection and its event: one slot for each [`SLOT`]
//! bytes. Namespaces share the slots of the dispatcher, and Subscriptions those of their namespace, as
//! [`shares`](crate::limits::shares) says. So endpoints that hang leave slots to others. After [`TRIP`] time-outs in a row
//! a lane lets in one delivery at a time, until one is answered and the lane opens anew. An endpoint that gets too much
//! (429) narrows its lane to one attempt at once, and a pause that it asks for holds the lane.
//!
//! **Waiting.** Parking is expensive: NATS stores the event, the delivery comes back after a second at the earliest,
//! and the park quota is meant for endpoints that fail. So a backlog waits if the lane, at its pace, will have taken
//! all of it within [`START_WITHIN`]. A lane that hangs keeps up to `lane.waiting` deliveries, and those that arrived
//! within the last two seconds. As each park is work for NATS, the deliveries that it parks come back later. What has
//! waited for [`LINGER`] waits for a slow endpoint. A new delivery then needs a place, and these are shared in the
//! same way. A waiting delivery is data in a queue: it has neither a task nor a timer of its own.
//!
//! **A slow dispatcher.** If the dispatcher's own slowness explains how long a lane's attempts take, the lane's
//! deliveries wait longer, up to [`START_WITHIN_WHEN_SLOW`]: see [`slowness`](crate::limits::slowness).

mod answers;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hookwright_core::delivery::outcome::OutcomeKind;
use hookwright_core::nats::ids::SubscriptionUid;
use tokio::time::Instant;

use self::answers::{Answers, PACE};
use crate::limits::budget::Held;
use crate::limits::outage::Tenant;
use crate::limits::shares::Room;
use crate::limits::slowness::{Allowance, START_WITHIN, START_WITHIN_WHEN_SLOW};
use crate::limits::turns::Turn;

/// How often [`Lanes::sweep`] has to be called.
pub(crate) const SWEEP: Duration = Duration::from_millis(50);

/// The permits of a lane that has not opened.
const FIRST: usize = 8;
/// The bytes of an event for which an attempt takes up one slot. A connection takes about as many.
const SLOT: usize = 16 << 10;
/// This many lanes, each with as many waiting deliveries as it may ever have, use up `limits.waiting`.
const WAITING_LANES: usize = 8;
/// A delivery that has waited for this long lingers: it no longer keeps further events from being read.
const LINGER: Duration = Duration::from_millis(100);

/// Something that waits in a lane. All of its functions must return soon.
pub(crate) trait Waits: Sized {
    /// Called with a permit of the lane when it is this one's turn.
    fn start(self, permit: Permit<Self>);
    /// Called if this one won't have its turn in time.
    fn leave(self);
    /// Called again and again once this one has waited for [`LINGER`]. Returns whether it needs a place among those that
    /// linger: due deliveries and those of dedicated readers don't, as they have budgets of their own.
    fn lingers(&mut self) -> bool;
    /// When the message was received.
    fn received(&self) -> Instant;
    /// The size of the event's body.
    fn size(&self) -> usize;
    /// Whether this one was parked before. Then it shares a budget with due deliveries for other endpoints, and must
    /// not wait long in a crowd. If as many wait as the lane may ever have under way, it waits for at most [`LINGER`],
    /// in which a quick lane takes all of them. If the lane also hangs, it does not wait at all.
    fn parked_before(&self) -> bool;
}

/// The lanes of all Subscriptions.
pub(crate) struct Lanes<W> {
    shared: Arc<Shared<W>>,
    lanes: RwLock<HashMap<SubscriptionUid, Arc<Lane<W>>>>,
}

/// The limits of each lane, and the lanes in which something waits.
struct Shared<W> {
    /// The permits of a lane that has not opened.
    first: usize,
    /// The permits of a lane that has opened fully: the setting `lane.inFlight`, bounded.
    in_flight: usize,
    /// How many deliveries may wait at any pace: the setting `lane.waiting`.
    waiting: usize,
    /// How many deliveries may wait if the lane is quick.
    most_waiting: usize,
    /// The slots for attempts of the whole dispatcher.
    attempts: Arc<Room>,
    /// The places of deliveries that linger.
    lingering: Room,
    closed: AtomicBool,
    /// The lanes in which something waits, which have to be swept.
    backlogged: Mutex<Vec<Arc<Lane<W>>>>,
}

/// The lane of a Subscription. It limits the attempts under way and the deliveries that wait.
pub(crate) struct Lane<W> {
    shared: Arc<Shared<W>>,
    tenant: Arc<Tenant>,
    turn: Turn,
    /// The due deliveries that are held for the Subscription.
    pub(crate) due: Arc<Held>,
    state: Mutex<State<W>>,
}

struct State<W> {
    /// All permits of the lane, including those in use.
    open: usize,
    under_way: usize,
    /// The slots that the attempts under way take up.
    slots: usize,
    waiting: VecDeque<Entry<W>>,
    /// How many of the waiting deliveries have a place among those that linger.
    lingering: usize,
    /// Whether the lane is among those to sweep.
    swept: bool,
    answers: Answers,
    /// Nothing starts before, because the endpoint has asked for a pause. Until then, no delivery waits too long.
    paused: Option<Instant>,
    /// Whether the attempt that ends now was refused because it was too much.
    slowed: bool,
    /// When deliveries last waited because the dispatcher was slow. Until then, their wait is no fault of the endpoint.
    delayed_by_us: Option<Instant>,
    /// How many lanes' attempts this one may have.
    lanes: usize,
}

struct Entry<W> {
    waiting: W,
    crowded: bool,
    place: Place,
}

/// Whether a waiting delivery has a place among those that linger.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It needs none yet.
    Unneeded,
    Taken,
    /// There was none.
    Refused,
}

/// The right to have one attempt of the lane under way. It is given back when dropped.
pub(crate) struct Permit<W: Waits> {
    lane: Arc<Lane<W>>,
    slots: usize,
}

impl<W: Waits> Lanes<W> {
    /// Lanes with these limits for each: attempts under way, and deliveries that wait at any pace. `all_waiting` is how
    /// many deliveries may wait over all lanes (`limits.waiting`), and `attempts` has the slots of the dispatcher.
    pub(crate) fn new(in_flight: usize, waiting: usize, all_waiting: usize, attempts: &Arc<Room>) -> Arc<Self> {
        let first = FIRST.min(in_flight);
        let most_waiting = waiting.max(all_waiting / WAITING_LANES);
        let (attempts, lingering) = (Arc::clone(attempts), Room::new(all_waiting));
        let (closed, backlogged) = (AtomicBool::new(false), Mutex::default());
        let shared = Shared { first, in_flight, waiting, most_waiting, attempts, lingering, closed, backlogged };
        Arc::new(Self { shared: Arc::new(shared), lanes: RwLock::default() })
    }

    /// The lane of this Subscription of this namespace.
    pub(crate) fn of(&self, subscription: &SubscriptionUid, tenant: &Arc<Tenant>) -> Arc<Lane<W>> {
        self.known(subscription).unwrap_or_else(|| {
            let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lanes.entry(subscription.clone()).or_insert_with(|| Lane::new(&self.shared, tenant)))
        })
    }

    /// The lane of this Subscription, if it has had a delivery.
    pub(crate) fn known(&self, subscription: &SubscriptionUid) -> Option<Arc<Lane<W>>> {
        // A poisoned lock means a panic in the map, which is whole then.
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).get(subscription).cloned()
    }

    /// Removes the lanes of Subscriptions that no longer exist.
    pub(crate) fn retain(&self, exists: impl Fn(&SubscriptionUid) -> bool) {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = lanes.keys().filter(|subscription| !exists(subscription)).cloned().collect();
        drop(lanes);
        if !gone.is_empty() {
            let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
            gone.iter().for_each(|subscription| drop(lanes.remove(subscription)));
        }
    }

    /// Starts nothing from now on. Everything that waits leaves at the next sweep.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    /// Has everything leave that won't have its turn in time.
    pub(crate) fn sweep(&self, now: Instant, allowance: Allowance) {
        self.shared.sweep(now, allowance);
    }
}

impl<W: Waits> Shared<W> {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn sweep(&self, now: Instant, allowance: Allowance) {
        let mut lanes = std::mem::take(&mut *self.backlogged());
        // So that what has become free goes to another lane first each time.
        let next = lanes.len().min(1);
        lanes.rotate_left(next);
        lanes.retain(|lane| lane.sweep(now, allowance));
        self.backlogged().append(&mut lanes);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn backlogged(&self) -> MutexGuard<'_, Vec<Arc<Lane<W>>>> {
        self.backlogged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Waits> Lane<W> {
    fn new(shared: &Arc<Shared<W>>, tenant: &Arc<Tenant>) -> Arc<Self> {
        let state = State {
            open: shared.first,
            under_way: 0,
            slots: 0,
            waiting: VecDeque::new(),
            lingering: 0,
            swept: false,
            answers: Answers::default(),
            paused: None,
            slowed: false,
            delayed_by_us: None,
            lanes: 1,
        };
        let (shared, tenant, due) = (Arc::clone(shared), Arc::clone(tenant), Held::within(&tenant.due));
        Arc::new(Self { shared, tenant, turn: Turn::default(), due, state: Mutex::new(state) })
    }

    /// Calls `start` once a permit is free, or `leave` if that won't be in time.
    pub(crate) fn enter(self: &Arc<Self>, waiting: W) {
        let Shared { in_flight, most_waiting, .. } = *self.shared;
        let mut state = self.state();
        let crowded = waiting.parked_before() && state.waiting.len() >= in_flight;
        let full = if state.answers.is_narrow() {
            state.under_way + state.waiting.len() > 0
        } else {
            crowded && (state.waiting.len() >= most_waiting || state.answers.hangs())
        };
        if full || self.shared.is_closed() {
            drop(state);
            return waiting.leave();
        }
        if state.waiting.is_empty() && self.may_start(&state) {
            return self.start(state, waiting);
        }
        state.waiting.push_back(Entry { waiting, crowded, place: Place::Unneeded });
        let swept = std::mem::replace(&mut state.swept, true);
        drop(state);
        if !swept {
            self.shared.backlogged().push(Arc::clone(self));
        }
    }

    /// Whether a parked delivery should not come back soon.
    pub(crate) fn is_stuck(&self) -> bool {
        let state = self.state();
        state.answers.is_narrow() || state.answers.hangs()
    }

    /// Lets the lane have as many attempts under way as so many lanes: those of dispatchers that leave the Subscription
    /// to this one.
    pub(crate) fn widen(&self, lanes: usize) {
        self.state().lanes = lanes.max(1);
    }

    /// Whether deliveries can't wait here because others, or those of this lane, take up all places.
    pub(crate) fn is_crowded_out(&self) -> bool {
        let lingering = self.state().lingering;
        !self.shared.lingering.has_place(&self.tenant.lingering, lingering)
    }

    /// Whether all slots are taken that the Subscription may have.
    fn is_scarce(&self, state: &State<W>) -> bool {
        !self.shared.attempts.has_place(&self.tenant.attempts, state.slots)
    }

    /// Whether one more attempt may start.
    fn may_start(&self, state: &State<W>) -> bool {
        state.under_way < state.open && !state.is_paused() && !self.shared.is_closed() && !self.is_scarce(state)
    }

    fn start(self: &Arc<Self>, mut state: MutexGuard<'_, State<W>>, waiting: W) {
        let slots = 1 + waiting.size() / SLOT;
        state.under_way += 1;
        state.slots += slots;
        self.shared.attempts.take(&self.tenant.attempts, slots);
        drop(state);
        waiting.start(Permit { lane: Arc::clone(self), slots });
    }

    /// Takes out of the waiting deliveries one that has its turn or leaves.
    fn goes(&self, state: &mut State<W>, place: Place) {
        if place == Place::Taken {
            state.lingering -= 1;
            self.shared.lingering.give_back(&self.tenant.lingering, 1);
        }
    }

    /// Counts an attempt that has ended.
    fn attempted(self: &Arc<Self>, outcome: OutcomeKind, took: Duration) {
        let mut state = self.state();
        let scarce = self.is_scarce(&state);
        if !state.answers.attempted(outcome, took) {
            return;
        }
        // A refusal because of too much is an answer, and opens nothing.
        let slowed = std::mem::take(&mut state.slowed);
        if !state.waiting.is_empty() && !scarce && !slowed && state.open < self.shared.in_flight * state.lanes {
            state.open += 1;
            self.start_next(state);
        }
    }

    /// Narrows the lane to one attempt, holds it for a pause, or both.
    fn slow_down(&self, narrow: bool, pause: Option<Duration>) {
        let mut state = self.state();
        if narrow {
            (state.open, state.slowed) = (1, true);
        }
        state.paused = state.paused.max(pause.map(|pause| Instant::now() + pause));
    }

    /// Takes back a permit and starts the next in the queue.
    fn give_back(self: &Arc<Self>, slots: usize) {
        let mut state = self.state();
        state.slots -= slots;
        self.shared.attempts.give_back(&self.tenant.attempts, slots);
        let scarce = self.is_scarce(&state);
        let least = if state.answers.is_narrow() {
            1
        } else if scarce || state.waiting.is_empty() && state.open.saturating_sub(state.under_way) >= state.open / 2 {
            self.shared.first
        } else {
            usize::MAX
        };
        if state.open > least {
            state.open -= 1;
        }
        state.under_way -= 1;
        self.start_next(state);
    }

    fn start_next(self: &Arc<Self>, mut state: MutexGuard<'_, State<W>>) {
        if !self.may_start(&state) {
            return;
        }
        let Some(next) = state.waiting.pop_front() else { return };
        self.goes(&mut state, next.place);
        self.start(state, next.waiting);
    }

    /// Returns whether something still waits.
    fn sweep(self: &Arc<Self>, now: Instant, allowance: Allowance) -> bool {
        let mut state = self.state();
        // After a pause, or when others have given slots back, no attempt of the lane ends that would start the next one.
        while !state.waiting.is_empty() && self.may_start(&state) {
            self.start_next(state);
            state = self.state();
        }
        let leaving = self.leaving(&mut state, now, allowance);
        leaving.iter().for_each(|entry| self.goes(&mut state, entry.place));
        state.swept = !state.waiting.is_empty();
        if !state.swept {
            // After a burst the queue gives its memory back.
            state.waiting = VecDeque::new();
        }
        let swept = state.swept;
        drop(state);
        leaving.into_iter().for_each(|entry| entry.waiting.leave());
        swept
    }

    /// Takes out everything that won't have its turn in time, the oldest first.
    fn leaving(&self, state: &mut State<W>, now: Instant, allowance: Allowance) -> VecDeque<Entry<W>> {
        let ours = state.answers.are_delayed_by_us(allowance);
        if ours {
            state.delayed_by_us = Some(now);
        }
        let linger = if ours { LINGER + PACE } else { LINGER };
        let age = |entry: &Entry<W>| now.saturating_duration_since(entry.waiting.received());
        let mut oldest = Duration::ZERO;
        for entry in &mut state.waiting {
            let age = age(entry);
            oldest = oldest.max(age);
            if age >= linger && entry.waiting.lingers() && entry.place != Place::Taken {
                entry.place = self.place(&mut state.lingering);
            }
        }
        let closed = self.shared.is_closed();
        if oldest < linger && !closed {
            state.answers.forget_pace();
            return VecDeque::new();
        }
        let every = if ours { PACE + allowance.duration() } else { PACE };
        let stay = if state.is_paused() {
            // That nothing ends says nothing about the endpoint.
            state.answers.forget_pace();
            self.shared.most_waiting
        } else {
            state.answers.look(now, every).clamp(self.shared.waiting, self.shared.most_waiting)
        };
        // From then on the pace of the lane is known.
        let pace_known = LINGER + if state.answers.hangs() { PACE * 2 } else { PACE };
        let (delayed_by_us, paused) = (state.delayed_by_us, state.paused);
        let leaves = |left: &mut usize, entry: &Entry<W>| {
            let age = age(entry);
            let since = |until: Option<Instant>| until.map_or(age, |until| now.saturating_duration_since(until));
            let waited = age.min(since(delayed_by_us));
            let leaves = closed
                || entry.place == Place::Refused && !ours
                || age >= START_WITHIN_WHEN_SLOW
                || waited.min(since(paused)) >= START_WITHIN
                || waited >= LINGER && entry.crowded && *left > self.shared.in_flight
                || waited >= pace_known && *left > stay;
            *left -= usize::from(leaves);
            leaves
        };
        let all = state.waiting.len();
        if !state.waiting.iter().any(|entry| leaves(&mut { all }, entry)) {
            return VecDeque::new();
        }
        let mut left = all;
        let entries = std::mem::take(&mut state.waiting).into_iter();
        let (leaving, staying) = entries.partition(|entry| leaves(&mut left, entry));
        state.waiting = staying;
        leaving
    }

    /// Takes a place among the deliveries that linger, if there is one. The lane has this many.
    fn place(&self, lingering: &mut usize) -> Place {
        let (all, namespace) = (&self.shared.lingering, &self.tenant.lingering);
        if !all.has_place(namespace, *lingering) {
            return Place::Refused;
        }
        all.take(namespace, 1);
        *lingering += 1;
        Place::Taken
    }

    // A poisoned lock means a panic between two changes of counts, where nothing panics.
    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Waits> State<W> {
    fn is_paused(&self) -> bool {
        self.paused.is_some_and(|until| Instant::now() < until)
    }
}

impl<W: Waits> Permit<W> {
    /// Whose turn it is when the attempt waits for the processors: the number of the namespace, and the lane's last turn.
    pub(crate) fn turn(&self) -> (usize, &Turn) {
        (self.lane.tenant.number, &self.lane.turn)
    }

    /// Counts the attempt, which has ended.
    pub(crate) fn attempted(&self, outcome: OutcomeKind, took: Duration) {
        self.lane.attempted(outcome, took);
    }

    /// Has the lane slow down, as the endpoint has asked: to one attempt at a time, for a pause, or both.
    pub(crate) fn slow_down(&self, narrow: bool, pause: Option<Duration>) {
        self.lane.slow_down(narrow, pause);
    }
}

impl<W: Waits> Drop for Permit<W> {
    fn drop(&mut self) {
        self.lane.give_back(self.slots);
    }
}

#[cfg(test)]
mod tests;
