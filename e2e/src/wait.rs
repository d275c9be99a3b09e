//! Waits for a condition.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const PAUSE: Duration = Duration::from_millis(50);

/// Runs `probe` until it returns `Ok`, for at most `deadline`. An `Err` of `probe` says what it saw instead. The last
/// one is part of the failure.
pub async fn wait_for<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let mut last = anyhow!("nothing, because the first look did not end");
    loop {
        match tokio::time::timeout(deadline.saturating_sub(start.elapsed()), probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = seen,
            Err(_) => {}
        }
        if start.elapsed() + PAUSE >= deadline {
            return Err(anyhow!("waited {deadline:?} for {what}; last seen: {last:#}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
