//! Limits how many attempts a dispatcher has under way, and queues what waits for an attempt.
//!
//! An attempt mostly waits for its endpoint, so there may be many. But answers that come at once are work for this
//! machine alone. The more connections take turns, the less of each is still in the processor's caches when its turn
//! comes. So only as many young attempts are under way as keep the processors busy (`make bench ONLY=B`: 512 attempts
//! instead of 64 cost half as much CPU again).

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limits::slowness::{Allowance, START_WITHIN, START_WITHIN_WHEN_SLOW};

/// How long an attempt counts as young.
pub(crate) const YOUNG: Duration = Duration::from_millis(4);
/// The most young attempts for each processor.
const YOUNG_PER_CORE: usize = 32;

/// Something that waits for a permit. `start` and `leave` must return soon.
pub(crate) trait Waits: Sized {
    /// Called with a permit when it is this one's turn.
    fn start(self, permit: Permit<Self>);
    /// Called if this one won't get a permit in time.
    fn leave(self);
    /// The end of the wait.
    fn until(&self) -> Instant;
}

/// The permits for attempts, one for each attempt under way.
pub(crate) struct Attempts<W: Waits> {
    load: Arc<Load>,
    state: Mutex<State<W>>,
}

struct State<W: Waits> {
    /// How many more young attempts may start.
    young: usize,
    waiting: VecDeque<Waiter<W>>,
    closed: bool,
    /// When something last waited because the dispatcher was slow.
    delayed_by_us: Option<Instant>,
}

enum Waiter<W: Waits> {
    Queued(W),
    Task(oneshot::Sender<Permit<W>>),
}

/// How many attempts are under way. The number changes under the lock of [`State`], and is read without it.
#[derive(Debug)]
pub(crate) struct Load {
    in_use: AtomicUsize,
    most: usize,
}

/// The right to have one attempt under way. It is given back when dropped.
pub(crate) struct Permit<W: Waits> {
    attempts: Arc<Attempts<W>>,
    young: bool,
}

impl Load {
    /// The number of attempts under way.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Acquire)
    }

    /// The most attempts under way at the same time.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Whether more than half of all attempts are under way.
    pub(crate) fn is_high(&self) -> bool {
        self.in_use() > self.most / 2
    }
}

impl<W: Waits> State<W> {
    /// Takes a permit, if one is free, and returns whether it was.
    fn take(&mut self, load: &Load) -> bool {
        let free = load.in_use() < load.most && self.young > 0;
        if free {
            self.young -= 1;
            load.in_use.fetch_add(1, Ordering::AcqRel);
        }
        free
    }
}

impl<W: Waits> Attempts<W> {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let young = std::thread::available_parallelism().map_or(1, NonZero::get) * YOUNG_PER_CORE;
        let state = State { young, waiting: VecDeque::new(), closed: false, delayed_by_us: None };
        Arc::new(Self { load: Arc::new(Load { in_use: AtomicUsize::new(0), most }), state: Mutex::new(state) })
    }

    pub(crate) fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// Calls `start` once a permit is free, or `leave` if that is too late.
    pub(crate) fn enter(self: &Arc<Self>, waiting: W) {
        self.admit(Waiter::Queued(waiting));
    }

    /// Waits for a permit for as long as it takes. Returns `None` once no more permits are given.
    pub(crate) async fn take(self: &Arc<Self>) -> Option<Permit<W>> {
        let (sender, permit) = oneshot::channel();
        self.admit(Waiter::Task(sender));
        permit.await.ok()
    }

    /// Gives no permits from now on, and has everything leave that waits.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waiter::leave);
    }

    /// Has everything leave whose wait has ended. To be called often.
    pub(crate) fn sweep(&self, now: Instant, allowance: Allowance) {
        let mut state = self.state();
        // While permits are left, everything waits for the processors, and not for endpoints.
        if allowance.is_slow() && self.load.in_use() < self.load.most {
            state.delayed_by_us = Some(now);
        }
        let delayed = state.delayed_by_us.is_some_and(|until| now < until + START_WITHIN);
        let more = if delayed { START_WITHIN_WHEN_SLOW - START_WITHIN } else { Duration::ZERO };
        let is_late = |waiter: &Waiter<W>| waiter.is_late(now, more);
        if !state.waiting.iter().any(is_late) {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting).into_iter();
        let (late, waiting): (VecDeque<_>, VecDeque<_>) = waiting.partition(is_late);
        state.waiting = waiting;
        drop(state);
        late.into_iter().for_each(Waiter::leave);
    }

    fn admit(self: &Arc<Self>, waiter: Waiter<W>) {
        let mut state = self.state();
        if state.closed {
            drop(state);
            waiter.leave();
        } else if state.take(&self.load) {
            drop(state);
            waiter.start(Permit { attempts: Arc::clone(self), young: true });
        } else {
            state.waiting.push_back(waiter);
        }
    }

    /// Gives back a permit (`one`), its youth (`young`) or both, and starts the next in the queue.
    fn give_back(self: &Arc<Self>, one: bool, young: bool) {
        let mut state = self.state();
        self.load.in_use.fetch_sub(usize::from(one), Ordering::AcqRel);
        state.young += usize::from(young);
        let next = if !state.waiting.is_empty() && state.take(&self.load) { state.waiting.pop_front() } else { None };
        drop(state);
        if let Some(waiter) = next {
            waiter.start(Permit { attempts: Arc::clone(self), young: true });
        }
    }

    // A poisoned lock means a panic between two changes of counts, where nothing panics.
    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Waits> Waiter<W> {
    fn start(self, permit: Permit<W>) {
        match self {
            Self::Queued(waiting) => waiting.start(permit),
            // If the task has given up waiting, the permit is dropped and goes to the next.
            Self::Task(sender) => drop(sender.send(permit)),
        }
    }

    fn leave(self) {
        if let Self::Queued(waiting) = self {
            waiting.leave();
        }
    }

    fn is_late(&self, now: Instant, more: Duration) -> bool {
        matches!(self, Self::Queued(waiting) if waiting.until() + more <= now)
    }
}

impl<W: Waits> Permit<W> {
    /// Ends the permit's youth: its attempt has ended, or has been under way for [`YOUNG`].
    pub(crate) fn ages(&mut self) {
        if std::mem::take(&mut self.young) {
            self.attempts.give_back(false, true);
        }
    }
}

impl<W: Waits> Drop for Permit<W> {
    fn drop(&mut self) {
        self.attempts.give_back(true, self.young);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;
    use tokio::task::coop::unconstrained;

    use super::*;

    /// A waiter that reports the outcome of its wait to the test.
    struct Queued(oneshot::Sender<Option<Permit<Self>>>, Instant);

    impl Waits for Queued {
        fn start(self, permit: Permit<Self>) {
            drop(self.0.send(Some(permit)));
        }

        fn leave(self) {
            drop(self.0.send(None));
        }

        fn until(&self) -> Instant {
            self.1
        }
    }

    fn enter(attempts: &Arc<Attempts<Queued>>, until: Instant) -> oneshot::Receiver<Option<Permit<Queued>>> {
        let (sender, receiver) = oneshot::channel();
        attempts.enter(Queued(sender, until));
        receiver
    }

    #[tokio::test]
    async fn attempts_that_take_long_make_room_for_young_ones() {
        let attempts = Attempts::<Queued>::new(100_000);
        let take = || unconstrained(attempts.take()).now_or_never().flatten();
        let mut young: Vec<_> = std::iter::from_fn(take).collect();
        let most = young.len();
        assert!(most >= YOUNG_PER_CORE && most.is_multiple_of(YOUNG_PER_CORE));
        young.iter_mut().for_each(Permit::ages);
        let more: Vec<_> = std::iter::from_fn(take).collect();
        assert_eq!((more.len(), attempts.load.in_use()), (most, 2 * most));
        drop((young, more));
        assert_eq!(attempts.load.in_use(), 0);
        let few = Attempts::<Queued>::new(1);
        let mut one = few.take().await.unwrap();
        one.ages();
        let mut waiting = pin!(few.take());
        assert!(waiting.as_mut().now_or_never().is_none(), "all together are bounded, too");
        few.close();
        assert!(waiting.now_or_never().is_some_and(|permit| permit.is_none()));
        assert!(few.take().await.is_none());
    }

    #[tokio::test]
    async fn who_waits_has_its_turn_in_order_or_leaves_when_its_time_is_over() {
        let attempts = Attempts::new(1);
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let first = enter(&attempts, now).now_or_never().unwrap().unwrap();
        let (mut late, mut next) = (enter(&attempts, now + second), enter(&attempts, now + second * 2));
        // A task that has given up takes nothing from the others.
        assert!(attempts.take().now_or_never().is_none());
        let mut last = enter(&attempts, now + second * 2);
        attempts.sweep(now, Allowance::default());
        assert!((&mut late).now_or_never().is_none());
        attempts.sweep(now + second, Allowance::default());
        assert!((&mut late).now_or_never().unwrap().unwrap().is_none());
        drop(first);
        assert!((&mut last).now_or_never().is_none());
        let permit = (&mut next).now_or_never().unwrap().unwrap();
        assert!(permit.is_some());
        drop(permit);
        assert!((&mut last).now_or_never().unwrap().unwrap().is_some());
        assert_eq!(attempts.load.in_use(), 0, "dropped with what held it");
        attempts.close();
        assert!(enter(&attempts, now + second).now_or_never().unwrap().unwrap().is_none());
    }
    #[tokio::test]
    async fn what_waits_for_the_processors_does_not_leave_when_they_are_slow() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let slow = Allowance::of(second);
        let attempts = Attempts::new(100_000);
        let take = || unconstrained(attempts.take()).now_or_never().flatten();
        let young: Vec<_> = std::iter::from_fn(take).collect();
        let mut waits = enter(&attempts, now);
        for (after, allowance, leaves) in
            [(0, slow, false), (1, slow, false), (2, Allowance::default(), false), (7, Allowance::default(), true)]
        {
            attempts.sweep(now + second * after, allowance);
            assert_eq!((&mut waits).now_or_never().is_some(), leaves, "after {after} s");
        }
        let mut waits = enter(&attempts, now + second * 7);
        for after in 7..62 {
            attempts.sweep(now + second * after, slow);
            assert!((&mut waits).now_or_never().is_none(), "after {after} s");
        }
        attempts.sweep(now + second * 62, slow);
        assert!((&mut waits).now_or_never().is_some(), "a minute after it came");
        drop(young);
    }
}
