//! Limits how many attempts begin at the same time, and queues what waits for the processors.
//!
//! An attempt mostly waits for its endpoint, so there may be many, as [`lane`](crate::limits::lane) says. But answers
//! that come at once are work for this machine alone. The more connections take turns, the less of each is still in the
//! processor's caches when its turn comes. So only as many young attempts are under way as keep the processors busy
//! (`make bench ONLY=B`: 512 attempts instead of 64 cost half as much CPU again). Namespaces take turns, and so do the
//! Subscriptions of each.

use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limits::slowness::{Allowance, START_WITHIN, START_WITHIN_WHEN_SLOW};
use crate::limits::turns::{InTurn, Turn, Turns};

/// How long an attempt counts as young.
pub(crate) const YOUNG: Duration = Duration::from_millis(4);
/// The most young attempts for each processor.
const YOUNG_PER_CORE: usize = 32;

/// Something that waits for a permit. `start` and `leave` must return soon.
pub(crate) trait Waits: InTurn + Sized {
    /// Called with a permit when it is this one's turn.
    fn start(self, permit: Permit<Self>);
    /// Called if this one won't get a permit in time.
    fn leave(self);
    /// The end of the wait.
    fn until(&self) -> Instant;
}

/// The permits for young attempts.
pub(crate) struct Attempts<W: Waits>(Mutex<State<W>>);

struct State<W: Waits> {
    /// How many more young attempts may start.
    young: usize,
    waiting: Turns<Waiter<W>>,
    closed: bool,
    /// When something last waited because the dispatcher was slow.
    delayed_by_us: Option<Instant>,
}

enum Waiter<W: Waits> {
    Queued(W),
    Task { permit: oneshot::Sender<Permit<W>>, namespace: usize, last: Turn },
}

/// The right to have one attempt under way that is young. It is given back once the attempt [ages](Self::ages), or when
/// dropped.
pub(crate) struct Permit<W: Waits> {
    attempts: Arc<Attempts<W>>,
    young: bool,
}

impl<W: Waits> Attempts<W> {
    pub(crate) fn new() -> Arc<Self> {
        let young = std::thread::available_parallelism().map_or(1, NonZero::get) * YOUNG_PER_CORE;
        Self::of(young)
    }

    fn of(young: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { young, waiting: Turns::default(), closed: false, delayed_by_us: None })))
    }

    /// Calls `start` once a permit is free, or `leave` if that is too late.
    pub(crate) fn enter(self: &Arc<Self>, waiting: W) {
        let mut state = self.state();
        if state.closed {
            drop(state);
            waiting.leave();
        } else if state.young > 0 {
            state.young -= 1;
            drop(state);
            waiting.start(self.permit());
        } else {
            state.waiting.push(Waiter::Queued(waiting));
        }
    }

    /// Waits for a permit for as long as it takes, in the turn of this namespace. Returns `None` once no more permits
    /// are given.
    pub(crate) async fn take(self: &Arc<Self>, namespace: usize) -> Option<Permit<W>> {
        let (sender, permit) = oneshot::channel();
        self.admit(namespace, sender)?;
        permit.await.ok()
    }

    fn admit(self: &Arc<Self>, namespace: usize, sender: oneshot::Sender<Permit<W>>) -> Option<()> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        if state.young == 0 {
            state.waiting.push(Waiter::Task { permit: sender, namespace, last: Turn::default() });
            return Some(());
        }
        state.young -= 1;
        drop(state);
        drop(sender.send(self.permit()));
        Some(())
    }

    /// Gives no permits from now on, and has everything leave that waits.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting).extract(|_| true);
        drop(state);
        waiting.into_iter().for_each(Waiter::leave);
    }

    /// Has everything leave whose wait has ended. To be called often.
    pub(crate) fn sweep(&self, now: Instant, allowance: Allowance) {
        let mut state = self.state();
        if allowance.is_slow() {
            state.delayed_by_us = Some(now);
        }
        let delayed = state.delayed_by_us.is_some_and(|until| now < until + START_WITHIN);
        let more = if delayed { START_WITHIN_WHEN_SLOW - START_WITHIN } else { Duration::ZERO };
        let late = state.waiting.extract(|waiter| waiter.is_late(now, more));
        drop(state);
        late.into_iter().for_each(Waiter::leave);
    }

    fn permit(self: &Arc<Self>) -> Permit<W> {
        Permit { attempts: Arc::clone(self), young: true }
    }

    /// Takes back a permit, and starts the next in the queue with it.
    fn give_back(self: &Arc<Self>) {
        let mut state = self.state();
        let next = state.waiting.pop();
        state.young += usize::from(next.is_none());
        drop(state);
        if let Some(waiter) = next {
            waiter.start(self.permit());
        }
    }

    // A poisoned lock means a panic between two changes of counts, where nothing panics.
    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Waits> InTurn for Waiter<W> {
    fn turn(&self) -> (usize, &Turn) {
        match self {
            Self::Queued(waiting) => waiting.turn(),
            Self::Task { namespace, last, .. } => (*namespace, last),
        }
    }
}

impl<W: Waits> Waiter<W> {
    fn start(self, one: Permit<W>) {
        match self {
            Self::Queued(waiting) => waiting.start(one),
            // If the task has given up waiting, the permit is dropped and goes to the next.
            Self::Task { permit, .. } => drop(permit.send(one)),
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
            self.attempts.give_back();
        }
    }
}

impl<W: Waits> Drop for Permit<W> {
    fn drop(&mut self) {
        self.ages();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::task::coop::unconstrained;

    use super::*;

    /// A waiter that reports the outcome of its wait to the test.
    struct Queued {
        got: oneshot::Sender<Option<Permit<Self>>>,
        until: Instant,
        namespace: usize,
        last: Turn,
    }

    impl Waits for Queued {
        fn start(self, permit: Permit<Self>) {
            drop(self.got.send(Some(permit)));
        }

        fn leave(self) {
            drop(self.got.send(None));
        }

        fn until(&self) -> Instant {
            self.until
        }
    }

    impl InTurn for Queued {
        fn turn(&self) -> (usize, &Turn) {
            (self.namespace, &self.last)
        }
    }

    fn enter_of(
        namespace: usize,
        attempts: &Arc<Attempts<Queued>>,
        until: Instant,
    ) -> oneshot::Receiver<Option<Permit<Queued>>> {
        let (got, receiver) = oneshot::channel();
        attempts.enter(Queued { got, until, namespace, last: Turn::default() });
        receiver
    }

    fn enter(attempts: &Arc<Attempts<Queued>>, until: Instant) -> oneshot::Receiver<Option<Permit<Queued>>> {
        enter_of(0, attempts, until)
    }

    #[tokio::test]
    async fn attempts_that_take_long_make_room_for_young_ones() {
        let attempts = Attempts::<Queued>::new();
        let take = || unconstrained(attempts.take(0)).now_or_never().flatten();
        let mut young: Vec<_> = std::iter::from_fn(take).collect();
        let most = young.len();
        assert!(most >= YOUNG_PER_CORE && most.is_multiple_of(YOUNG_PER_CORE));
        young.iter_mut().for_each(Permit::ages);
        let more: Vec<_> = std::iter::from_fn(take).collect();
        assert_eq!(more.len(), most);
        drop((young, more));
        assert_eq!(attempts.state().young, most);
        attempts.close();
        assert!(attempts.take(0).await.is_none());
    }

    #[tokio::test]
    async fn who_waits_has_its_turn_in_order_or_leaves_when_its_time_is_over() {
        let attempts = Attempts::of(1);
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let first = enter(&attempts, now).now_or_never().unwrap().unwrap();
        let (mut late, mut next) = (enter(&attempts, now + second), enter(&attempts, now + second * 2));
        // A task that has given up takes nothing from the others.
        assert!(attempts.take(0).now_or_never().is_none());
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
        assert_eq!(attempts.state().young, 1, "dropped with what held it");
        attempts.close();
        assert!(enter(&attempts, now + second).now_or_never().unwrap().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_namespace_with_much_to_send_delays_another_by_one_turn() {
        let attempts = Attempts::of(1);
        let until = Instant::now() + START_WITHIN;
        let first = enter(&attempts, until);
        let mut greedy: Vec<_> = (0..1000).map(|_| enter(&attempts, until)).collect();
        let mut other = enter_of(1, &attempts, until);
        drop(first);
        drop((&mut greedy[0]).now_or_never().unwrap());
        assert!((&mut other).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_waits_for_the_processors_does_not_leave_when_they_are_slow() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let slow = Allowance::of(second);
        let attempts = Attempts::new();
        let take = || unconstrained(attempts.take(0)).now_or_never().flatten();
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
