//! A limit on how often something is done.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::cache::shared::Shared;

/// Turns that come at a steady pace, first come, first served. Of those that nobody took, some may be made up for.
pub(crate) struct Pace {
    apart: Duration,
    /// How much earlier than at the steady pace a turn may come.
    ahead: Duration,
    /// When the next turn comes at the steady pace.
    next: Shared<Instant>,
}

impl Pace {
    /// Turns that nobody took are not made up for.
    pub(crate) fn per_second(turns: u32) -> Self {
        Self::with_burst(turns, 1)
    }

    /// After a pause, `burst` turns come at once.
    pub(crate) fn with_burst(per_second: u32, burst: u32) -> Self {
        let apart = Duration::from_secs(1) / per_second.max(1);
        Self { apart, ahead: apart * burst.saturating_sub(1), next: Shared::new(Instant::now()) }
    }

    /// Waits for the next turn. Returns whether it had to.
    pub(crate) async fn turn(&self) -> bool {
        let now = Instant::now();
        let at = {
            let mut next = self.next.lock();
            let steady = (*next).max(now);
            *next = steady + self.apart;
            // A clock that has just begun has nothing before it.
            steady.checked_sub(self.ahead).unwrap_or(now)
        };
        sleep_until(at).await;
        at > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_apart() {
        let (pace, start) = (Pace::per_second(75), Instant::now());
        for _ in 0..=75 {
            pace.turn().await;
        }
        assert_eq!(start.elapsed().as_millis() / 10, 100);
        tokio::time::advance(Duration::from_secs(60)).await;
        pace.turn().await;
        let late = Instant::now();
        pace.turn().await;
        assert!(late.elapsed() >= Duration::from_millis(12), "a minute without turns allows no burst");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_allows_a_burst_and_no_more() {
        let pace = Pace::with_burst(10, 5);
        for seconds in [0, 60] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            let (start, mut waited) = (Instant::now(), 0);
            for _ in 0..15 {
                waited += usize::from(pace.turn().await);
            }
            assert_eq!((start.elapsed().as_millis() / 10, waited), (100, 10));
        }
    }
}
