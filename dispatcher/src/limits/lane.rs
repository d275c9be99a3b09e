//! A subscription's lane: how much of a dispatcher one endpoint can take. A dead endpoint takes nothing from others;
//! what will not have its turn in time leaves, to be parked.
//!
//! **Under way.** A lane starts with few permits, and gets one more for each answer while deliveries wait, up to its most, as
//! TCP opens its window (RFC 5681, slow start). It gives back those that it does not use (RFC 7661), and lanes together
//! never open into the second half of what the dispatcher may have under way: that is for those that have not opened. So
//! endpoints that hang, however many attempts they took before, leave some to the others. After [`TRIP`] time-outs in a row
//! a lane lets in one delivery at a time, until one is answered and it opens anew.
//!
//! **Waiting.** To park is dear: NATS stores the event, it comes a second later at the soonest, and the park quota is for
//! endpoints that fail. So a read_ahead waits as long as the lane, at its pace, will have taken all of it within
//! [`START_WITHIN`]. Beyond a few, one that hangs keeps only what arrives for it within two seconds; and as each park is
//! work for NATS, what it parks comes again later. What waits is data in a queue: neither a task nor a timer of its own.
//!
//! **Slow ourselves.** Where the dispatcher's own slowness explains how long a lane's attempts take, its deliveries wait on,
//! for up to [`MOST_PATIENT`]: see [`slowness`](crate::limits::slowness).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hookwright_core::delivery::outcome::OutcomeKind;
use hookwright_core::nats::ids::SubscriptionUid;
use tokio::time::Instant;

use crate::limits::attempts::Load;
use crate::limits::slowness::{Allowance, MOST_PATIENT, START_WITHIN};

/// How often [`Lanes::sweep`] is to be called.
pub(crate) const SWEEP: Duration = Duration::from_millis(50);

/// So many lanes that have not opened take all of a dispatcher's attempts.
const LANES: usize = 64;
/// So many lanes take all room for what waits.
const WAITING_LANES: usize = 8;
/// Time-outs in a row that narrow a lane to one delivery at a time.
const TRIP: u32 = 5;
/// What has waited for so long does not hinder the reading of more.
const LINGER: Duration = Duration::from_millis(100);
/// How often a lane where some linger is held to its pace.
const PACE: Duration = Duration::from_secs(1);

/// What waits in a lane. All calls must return soon.
pub(crate) trait Waits: Sized {
    /// It has its turn.
    fn start(self, permit: Permit<Self>);
    /// It won't have it in time.
    fn leave(self);
    /// It has waited for a while; called again and again.
    fn lingers(&mut self);
    /// When its message was received.
    fn received(&self) -> Instant;
    /// Whether it comes again: then it shares a budget with those of other endpoints. Those that find as many waiting as may
    /// be under way at the best wait for [`LINGER`], in which a quick lane takes all of them, and for one that hangs not at
    /// all.
    fn parked_before(&self) -> bool;
}

/// The lanes of all Subscriptions.
pub(crate) struct Lanes<W> {
    shared: Arc<Shared<W>>,
    lanes: RwLock<HashMap<SubscriptionUid, Arc<Lane<W>>>>,
}

/// What each lane may have, and where something waits.
struct Shared<W> {
    /// Permits of a lane that has not opened.
    first: usize,
    /// And of one that has opened wide.
    most: usize,
    /// So many deliveries wait at any pace.
    patience: usize,
    /// And so many at the best.
    most_waiting: usize,
    /// Of the dispatcher.
    load: Arc<Load>,
    closed: AtomicBool,
    /// The lanes to sweep.
    backlogged: Mutex<Vec<Arc<Lane<W>>>>,
}

/// Bounded under way, bounded waiting.
pub(crate) struct Lane<W> {
    shared: Arc<Shared<W>>,
    state: Mutex<State<W>>,
}

struct State<W> {
    /// Permits, those in use too.
    open: usize,
    under_way: usize,
    waiting: VecDeque<Entry<W>>,
    /// Whether it is among the lanes to sweep.
    swept: bool,
    /// Attempts that have ended.
    ended: usize,
    /// How long they take of late; none before the first one has ended.
    typical: Option<Duration>,
    timed_out: u32,
    /// Deliveries waited while no attempt ended, and none was answered since.
    hangs: bool,
    /// While some linger.
    pace: Option<Pace>,
}

struct Entry<W> {
    waiting: W,
    crowded: bool,
}

/// How fast the lane is of late.
struct Pace {
    looked: Instant,
    /// What had ended when it was looked at last, and before.
    ended: [usize; 2],
    looks: usize,
    /// How many it will take in time.
    in_time: usize,
}

/// A permit of the lane; free again when dropped.
pub(crate) struct Permit<W: Waits>(Arc<Lane<W>>);

impl<W: Waits> Lanes<W> {
    /// Attempts under way, deliveries that wait at any pace, and those that may wait over all lanes.
    pub(crate) fn new(in_flight: usize, patience: usize, all_waiting: usize, load: &Arc<Load>) -> Arc<Self> {
        let first = (load.most() / LANES).clamp(1, in_flight);
        let most_waiting = patience.max(all_waiting / WAITING_LANES);
        let (load, closed, backlogged) = (Arc::clone(load), AtomicBool::new(false), Mutex::default());
        let shared = Shared { first, most: in_flight, patience, most_waiting, load, closed, backlogged };
        Arc::new(Self { shared: Arc::new(shared), lanes: RwLock::default() })
    }

    /// The lane of this Subscription.
    pub(crate) fn of(&self, subscription: &SubscriptionUid) -> Arc<Lane<W>> {
        // A poisoned lock means a panic in the map, which is whole then.
        let known = self.lanes.read().unwrap_or_else(PoisonError::into_inner).get(subscription).cloned();
        known.unwrap_or_else(|| {
            let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lanes.entry(subscription.clone()).or_insert_with(|| Lane::new(&self.shared)))
        })
    }

    /// Forgets the lanes of Subscriptions that no longer exist.
    pub(crate) fn retain(&self, exists: impl Fn(&SubscriptionUid) -> bool) {
        self.lanes.write().unwrap_or_else(PoisonError::into_inner).retain(|subscription, _| exists(subscription));
    }

    /// From now on nothing starts: what waits leaves at the next sweep.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    /// Has those leave that won't have their turn in time.
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
    fn new(shared: &Arc<Shared<W>>) -> Arc<Self> {
        let state = State {
            open: shared.first,
            under_way: 0,
            waiting: VecDeque::new(),
            swept: false,
            ended: 0,
            typical: None,
            timed_out: 0,
            hangs: false,
            pace: None,
        };
        Arc::new(Self { shared: Arc::clone(shared), state: Mutex::new(state) })
    }

    /// Starts this one once it has a permit, or has it leave.
    pub(crate) fn enter(self: &Arc<Self>, waiting: W) {
        let Shared { most, most_waiting, .. } = *self.shared;
        let mut state = self.state();
        let crowded = waiting.parked_before() && state.waiting.len() >= most;
        let full = if state.is_narrow() {
            state.under_way + state.waiting.len() > 0
        } else {
            crowded && (state.waiting.len() >= most_waiting || state.hangs)
        };
        if full || self.shared.is_closed() {
            drop(state);
            return waiting.leave();
        }
        if state.under_way < state.open {
            state.under_way += 1;
            drop(state);
            return waiting.start(Permit(Arc::clone(self)));
        }
        state.waiting.push_back(Entry { waiting, crowded });
        let swept = std::mem::replace(&mut state.swept, true);
        drop(state);
        if !swept {
            self.shared.backlogged().push(Arc::clone(self));
        }
    }

    /// Whether it is of no use to come back soon.
    pub(crate) fn is_stuck(&self) -> bool {
        let state = self.state();
        state.is_narrow() || state.hangs
    }

    /// An attempt has ended.
    fn attempted(self: &Arc<Self>, outcome: OutcomeKind, took: Duration) {
        let scarce = self.shared.load.is_high();
        let mut state = self.state();
        state.ended = state.ended.wrapping_add(1);
        state.typical = Some(state.typical.map_or(took, |typical| typical - typical / 8 + took / 8));
        if outcome == OutcomeKind::TimedOut {
            state.timed_out = state.timed_out.saturating_add(1);
            return;
        }
        (state.timed_out, state.hangs) = (0, false);
        if !state.waiting.is_empty() && !scarce && state.open < self.shared.most {
            state.open += 1;
            self.start_next(state);
        }
    }

    /// A permit is free.
    fn give_back(self: &Arc<Self>) {
        let scarce = self.shared.load.is_high();
        let mut state = self.state();
        let least = if state.is_narrow() {
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
        if state.under_way >= state.open || self.shared.is_closed() {
            return;
        }
        let Some(next) = state.waiting.pop_front() else { return };
        state.under_way += 1;
        drop(state);
        next.waiting.start(Permit(Arc::clone(self)));
    }

    /// Returns whether something waits still.
    fn sweep(&self, now: Instant, allowance: Allowance) -> bool {
        let mut state = self.state();
        let leaving = state.leaving(&self.shared, now, allowance);
        state.swept = !state.waiting.is_empty();
        if !state.swept {
            // A burst takes no memory when it is over.
            state.waiting = VecDeque::new();
        }
        let swept = state.swept;
        drop(state);
        leaving.into_iter().for_each(|entry| entry.waiting.leave());
        swept
    }

    // A poisoned lock means a panic between two counts, which is none.
    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Waits> State<W> {
    /// Whether the endpoint lets attempts run into their timeout.
    fn is_narrow(&self) -> bool {
        self.timed_out >= TRIP
    }

    /// Takes out those that won't have their turn in time, the oldest first.
    fn leaving(&mut self, shared: &Shared<W>, now: Instant, allowance: Allowance) -> VecDeque<Entry<W>> {
        let ours = !self.hangs && self.typical.is_some_and(|typical| allowance.explains(typical));
        let (linger, start_within) =
            if ours { (LINGER + allowance.duration(), MOST_PATIENT) } else { (LINGER, START_WITHIN) };
        let age = |entry: &Entry<W>| now.saturating_duration_since(entry.waiting.received());
        let mut oldest = Duration::ZERO;
        for entry in &mut self.waiting {
            let age = age(entry);
            oldest = oldest.max(age);
            if age >= linger {
                entry.waiting.lingers();
            }
        }
        let closed = shared.is_closed();
        if oldest < linger && !closed {
            self.pace = None;
            return VecDeque::new();
        }
        let in_time = if ours { self.start_looking_anew() } else { self.look(now) };
        let stay = in_time.clamp(shared.patience, shared.most_waiting);
        // It is known by then how fast it is.
        let known = linger + if self.hangs { PACE * 2 } else { PACE };
        let leaves = |left: &mut usize, entry: &Entry<W>| {
            let age = age(entry);
            let leaves = closed
                || age >= start_within
                || age >= linger && entry.crowded && *left > shared.most
                || age >= known && *left > stay;
            *left -= usize::from(leaves);
            leaves
        };
        let all = self.waiting.len();
        if !self.waiting.iter().any(|entry| leaves(&mut { all }, entry)) {
            return VecDeque::new();
        }
        let mut left = all;
        let entries = std::mem::take(&mut self.waiting).into_iter();
        let (leaving, staying) = entries.partition(|entry| leaves(&mut left, entry));
        self.waiting = staying;
        leaving
    }

    /// The pace says nothing of an endpoint while the dispatcher is what is slow: all will have their turn.
    fn start_looking_anew(&mut self) -> usize {
        self.pace = None;
        usize::MAX
    }

    /// How many will have their turn in time, by the last two seconds.
    fn look(&mut self, now: Instant) -> usize {
        let ended = self.ended;
        let pace = self.pace.get_or_insert(Pace { looked: now, ended: [ended; 2], looks: 0, in_time: usize::MAX });
        if now >= pace.looked + PACE {
            let looks = (pace.looks + 1).min(2);
            let took = ended.wrapping_sub(pace.ended[1]);
            // With one look only, it may just take its time.
            if took > 0 || looks == 2 {
                pace.in_time = took * (START_WITHIN.as_millis() / PACE.as_millis()) as usize / looks;
                self.hangs |= took == 0;
            }
            *pace = Pace { looked: now, ended: [ended, pace.ended[0]], looks, in_time: pace.in_time };
        }
        pace.in_time
    }
}

impl<W: Waits> Permit<W> {
    /// Its attempt has ended.
    pub(crate) fn attempted(&self, outcome: OutcomeKind, took: Duration) {
        self.0.attempted(outcome, took);
    }
}

impl<W: Waits> Drop for Permit<W> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests;
