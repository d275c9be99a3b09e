//! The budget of status writes: 20 a second.
//!
//! A write that answers an edit, or that changes whether an object is Ready, is made at once, and counts. All other
//! writes wait until there is room, first come, first served: the counts of dispatchers, and the numbers of streams.
//! While thousands of objects are rolled out, the first sort of writes can take all the room. So a few writes a second
//! are reserved for the others, as the health of other objects must not go unseen.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::cache::shared::Shared;

/// The number of writes in each [`WINDOW`].
const WRITES: usize = 20;
/// The number of waiting writes that are allowed in each [`WINDOW`], whatever the other writes do.
const RESERVE: usize = 5;
const WINDOW: Duration = Duration::from_secs(1);

/// The last writes of status.
#[derive(Default)]
pub(crate) struct StatusBudget {
    last: Shared<Last>,
    /// The queue of waiting writes. It is fair: the write that has waited longest is next.
    queue: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Last {
    all: VecDeque<Instant>,
    /// The last writes that had to wait.
    waited: VecDeque<Instant>,
}

/// A permit for one write. Until it is spent or dropped, no other waiting write gets one.
pub(crate) struct WritePermit<'a> {
    budget: &'a StatusBudget,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl WritePermit<'_> {
    /// Counts the write.
    pub(crate) fn spend(self) {
        let mut last = self.budget.last.lock();
        note(&mut last.all, WRITES);
        note(&mut last.waited, RESERVE);
    }
}

impl StatusBudget {
    /// Counts a write that doesn't wait.
    pub(crate) fn spend(&self) {
        note(&mut self.last.lock().all, WRITES);
    }

    /// Counts a write that doesn't wait. Returns true: such a write is always allowed.
    pub(crate) fn always(&self) -> bool {
        self.spend();
        true
    }

    /// Returns when there is room for one more waiting write.
    fn free(&self) -> Instant {
        let last = self.last.lock();
        free(&last.all, WRITES).min(free(&last.waited, RESERVE))
    }

    /// Waits until there is room for one more write.
    pub(crate) async fn permit(&self) -> WritePermit<'_> {
        let turn = self.queue.lock().await;
        loop {
            let free = self.free();
            if free <= Instant::now() {
                return WritePermit { budget: self, _turn: turn };
            }
            sleep_until(free).await;
        }
    }

    /// Returns a permit if there is room now and no other write waits for it.
    pub(crate) fn permit_now(&self) -> Option<WritePermit<'_>> {
        let turn = self.queue.try_lock().ok()?;
        (self.free() <= Instant::now()).then_some(WritePermit { budget: self, _turn: turn })
    }
}

fn note(last: &mut VecDeque<Instant>, most: usize) {
    last.push_back(Instant::now());
    last.drain(..last.len().saturating_sub(most));
}

fn free(last: &VecDeque<Instant>, most: usize) -> Instant {
    let oldest = last.len().checked_sub(most).and_then(|at| last.get(at));
    oldest.map_or_else(Instant::now, |oldest| *oldest + WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test(start_paused = true)]
    async fn twenty_in_any_second_and_who_need_not_wait_comes_first() {
        let budget = StatusBudget::default();
        let start = Instant::now();
        let mut times = Vec::new();
        for n in 0..100 {
            budget.permit().await.spend();
            times.push(start.elapsed());
            if n == 50 {
                // These writes take room from the waiting ones.
                (0..10).for_each(|_| budget.spend());
            }
        }
        assert!(times.windows(WRITES + 1).all(|w| w[WRITES] - w[0] >= WINDOW), "{times:?}");
        assert_eq!(times[99].as_secs(), 5, "110 writes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_edits_leaves_a_reserve() {
        let budget = Arc::new(StatusBudget::default());
        let flood = tokio::spawn({
            let budget = budget.clone();
            async move {
                for _ in 0..1_000 {
                    budget.spend();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
        tokio::time::sleep(WINDOW).await;
        let mut times = Vec::new();
        while !flood.is_finished() {
            let start = Instant::now();
            budget.permit().await.spend();
            times.push(start.elapsed());
        }
        assert!((40..=55).contains(&times.len()), "{} in 9 s", times.len());
        assert!(times.iter().all(|waited| *waited <= WINDOW), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_take_turns() {
        let budget = Arc::new(StatusBudget::default());
        (0..WRITES).for_each(|_| budget.spend());
        (0..RESERVE).for_each(|_| note(&mut budget.last.lock().waited, RESERVE));
        assert!(budget.permit_now().is_none(), "no room");
        let counts = Arc::new(Mutex::new([0u32; 2]));
        let writers = [0, 1].map(|who| {
            let (budget, counts) = (budget.clone(), counts.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    budget.permit().await.spend();
                    counts.lock().unwrap()[who] += 1;
                }
            })
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        let counts = *counts.lock().unwrap();
        writers.iter().for_each(tokio::task::JoinHandle::abort);
        assert!(counts[0].abs_diff(counts[1]) <= 1 && counts[0] >= 40, "{counts:?}");
    }
}
