//! Counts the events that the index passes over. An event costs nothing for a Subscription that it passes over, so they are
//! counted now and then, from what the index knows of the patterns.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::interval;

use crate::clock::Clock;
use crate::config::index::Index;
use crate::metrics::Metrics;

/// How often they are counted. Each time writes the counts of every Subscription that was passed over.
const EVERY: Duration = Duration::from_secs(30);

/// Counts until the task is dropped.
pub(crate) async fn count(index: Arc<Index>, clock: Arc<Clock>, metrics: Arc<Metrics>) {
    let mut tick = interval(EVERY);
    loop {
        tick.tick().await;
        let now = clock.now();
        let passed_over = index.passed_over();
        let events = passed_over.into_iter().map(|(subscription, events)| subscription.passed_over(events, now)).sum();
        metrics.filtered_out(false, events);
    }
}
