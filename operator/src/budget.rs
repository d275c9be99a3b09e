//! How many writes of status there may be: 20 a second, whoever writes.
//!
//! The reconcilers write on transitions only, and at once: a new object's Ready doesn't wait behind counts. What they
//! write counts, and the writer of health waits until there is room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Writes in each [`WINDOW`].
const WRITES: usize = 20;
const WINDOW: Duration = Duration::from_secs(1);

/// The last writes of status.
#[derive(Default)]
pub(crate) struct StatusBudget(Mutex<VecDeque<Instant>>);

impl StatusBudget {
    fn last(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a write.
    pub(crate) fn spend(&self) {
        let mut last = self.last();
        last.push_back(Instant::now());
        while last.len() > WRITES {
            last.pop_front();
        }
    }

    /// When there is room for one more write.
    fn free(&self) -> Instant {
        let last = self.last();
        let oldest = last.len().checked_sub(WRITES).and_then(|at| last.get(at));
        oldest.map_or_else(Instant::now, |oldest| *oldest + WINDOW)
    }

    /// Waits until there is room for one more write.
    pub(crate) async fn room(&self) {
        loop {
            let free = self.free();
            if free <= Instant::now() {
                return;
            }
            sleep_until(free).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn twenty_in_any_second_and_the_reconcilers_come_first() {
        let budget = StatusBudget::default();
        let start = Instant::now();
        let mut times = Vec::new();
        for n in 0..100 {
            budget.room().await;
            budget.spend();
            times.push(start.elapsed());
            if n == 50 {
                // A reconciler doesn't wait; what it wrote, others can't.
                (0..10).for_each(|_| budget.spend());
            }
        }
        assert!(times.windows(WRITES + 1).all(|w| w[WRITES] - w[0] >= WINDOW), "{times:?}");
        assert_eq!(times[99].as_secs(), 5, "110 writes");
    }
}
