//! A limit on how often something is done.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::cache::shared::Shared;

/// Turns that come at a steady pace, first come, first served. Turns that nobody took are not made up for.
pub(crate) struct Pace {
    apart: Duration,
    next: Shared<Instant>,
}

impl Pace {
    pub(crate) fn per_second(turns: u32) -> Self {
        Self { apart: Duration::from_secs(1) / turns, next: Shared::new(Instant::now()) }
    }

    /// Waits for the next turn.
    pub(crate) async fn turn(&self) {
        let at = {
            let mut next = self.next.lock();
            let at = (*next).max(Instant::now());
            *next = at + self.apart;
            at
        };
        sleep_until(at).await;
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
}
