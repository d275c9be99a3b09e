//! Counts the events that the index passes over. An event costs nothing for a Subscription that it passes over, so they are
//! counted now and then, from what the index knows of the patterns. As each count is written for each Subscription, those
//! that have hardly grown are written seldom.

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::select::index::Few;
use tokio::time::interval;

use crate::clock::Clock;
use crate::config::index::Index;
use crate::metrics::Metrics;

/// How often they are counted.
const EVERY: Duration = Duration::from_secs(30);
/// In how many of these counts those are told once that have hardly grown: every 10 minutes.
const SELDOM: u32 = 20;

/// Counts until the task is dropped.
pub(crate) async fn count(index: Arc<Index>, clock: Arc<Clock>, metrics: Arc<Metrics>) {
    let mut tick = interval(EVERY);
    for round in (1..=SELDOM).cycle() {
        tick.tick().await;
        let now = clock.now();
        let passed_over = index.passed_over(if round == SELDOM { Few::Now } else { Few::Later });
        let events = passed_over.into_iter().map(|(subscription, events)| subscription.passed_over(events, now)).sum();
        metrics.filtered_out(false, events);
    }
}
