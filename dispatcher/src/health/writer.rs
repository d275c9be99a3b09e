//! Writes counts to the health bucket.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::Store;
use futures::StreamExt;
use hookwright_core::delivery::health::DeliveryCounts;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{HEALTH_BUCKET, health_key};
use hookwright_core::record::encode;
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::nats::Nats;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

use super::{HealthCell, Take};
use crate::clock::Clock;

/// How often the writer looks for counts to write.
const TICK: Duration = Duration::from_millis(200);
/// The most writes under way at the same time.
const CONCURRENCY: usize = 16;
/// The most writes in a tick, pressing ones excepted: a thousand a second. If very many Subscriptions get something at
/// the same time, their counts must not cost as much as their deliveries; some are written a little later then.
const MOST: usize = 200;

/// Writes counts that have changed.
pub(crate) struct HealthWriter<E> {
    pub(crate) nats: Nats,
    /// Whether a Subscription exists. The counts of a deleted one are not written.
    pub(crate) exists: E,
    /// Decides which due times have passed.
    pub(crate) clock: Arc<Clock>,
    pub(crate) incarnation: String,
    pub(crate) changed: mpsc::UnboundedReceiver<Arc<HealthCell>>,
    pub(crate) complaints: Seldom,
}

type Cells = Vec<Arc<HealthCell>>;
type Writes = Vec<(Arc<HealthCell>, Box<DeliveryCounts>)>;

/// Sorts cells into those to look at again, first those that had no room in this tick, and the counts to write.
fn sort(
    cells: Cells,
    exists: impl Fn(&HealthCell) -> bool,
    now: Instant,
    wall: Timestamp,
    force: bool,
) -> (Cells, Writes) {
    let (mut first, mut again, mut writes) = (Vec::new(), Vec::with_capacity(cells.len()), Vec::new());
    for cell in cells {
        if writes.len() >= MOST && !force && !cell.is_pressing() {
            first.push(cell);
            continue;
        }
        if !exists(&cell) {
            // The counts of a deleted Subscription are not written. If it comes back, they go on from here.
            cell.rest();
            continue;
        }
        match cell.take(now, wall, force) {
            Take::Write(counts) => writes.push((Arc::clone(&cell), counts)),
            Take::Later => {}
            Take::Rest => continue,
        }
        again.push(cell);
    }
    first.append(&mut again);
    (first, writes)
}

impl<E: Fn(&SubscriptionUid) -> bool> HealthWriter<E> {
    /// Writes until `stop`; then once more, everything that is not written yet.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut waiting = Vec::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            let stopping = tokio::select! {
                () = &mut stop => true,
                _ = tick.tick() => false,
            };
            while let Ok(cell) = self.changed.try_recv() {
                waiting.push(cell);
            }
            waiting = self.write(waiting, stopping).await;
            if stopping {
                return;
            }
        }
    }

    /// Writes counts and returns the cells to look at again.
    async fn write(&self, cells: Cells, force: bool) -> Cells {
        let exists = |cell: &HealthCell| (self.exists)(&cell.uid);
        let (again, writes) = sort(cells, exists, Instant::now(), self.clock.now(), force);
        if writes.is_empty() {
            return again;
        }
        match self.nats.bucket(HEALTH_BUCKET).await {
            Ok(bucket) => {
                let writes = futures::stream::iter(writes);
                writes.for_each_concurrent(CONCURRENCY, |(cell, counts)| self.put(&bucket, cell, counts)).await;
            }
            Err(error) => writes.iter().for_each(|(cell, _)| self.not_written(cell, &error)),
        }
        again
    }

    async fn put(&self, bucket: &Store, cell: Arc<HealthCell>, counts: Box<DeliveryCounts>) {
        // Counts always encode.
        let Ok(value) = encode(&*counts) else { return };
        if let Err(error) = bucket.put(health_key(&cell.uid, &self.incarnation), value.into()).await {
            self.not_written(&cell, &error);
        }
    }

    /// Marks the counts as not written, but no longer as urgent: NATS is unreachable, or has no room.
    fn not_written(&self, cell: &Arc<HealthCell>, error: &dyn std::error::Error) {
        if self.complaints.now() {
            warn!(error = chain(error), "can't write delivery counts to NATS; retrying");
        }
        cell.change(|_| false);
    }
}

#[cfg(test)]
mod tests {
    use hookwright_core::delivery::health::{LastAttempt, Waiting};
    use hookwright_core::delivery::outcome::OutcomeKind;
    use hookwright_core::delivery::quota::{ParkQuota, Room};
    use hookwright_core::nats::ids::SubscriptionUid;

    use super::super::Health;
    use super::*;

    #[test]
    fn many_take_turns_and_what_presses_is_not_held_back() {
        let (health, _changed) = Health::new();
        let cell = |n: usize| health.cell(&SubscriptionUid::parse(&format!("s-{n}")).unwrap());
        let cells: Cells = (0..2 * MOST + 10).map(cell).collect();
        let start = Instant::now();
        let look = |cells, seconds, force| {
            let now = start + Duration::from_secs(seconds);
            let (again, writes) = sort(cells, |cell| cell.uid.as_str() != "s-0", now, Timestamp::UNIX_EPOCH, force);
            let written: Vec<String> = writes.iter().map(|(cell, _)| cell.uid.to_string()).collect();
            (again, written)
        };
        let named = |range: std::ops::Range<usize>| range.map(|n| format!("s-{n}")).collect::<Vec<_>>();
        let delivered = |cell: &Arc<HealthCell>| {
            let (time, outcome, http_status) = (Timestamp::UNIX_EPOCH, OutcomeKind::Delivered, Some(200));
            cell.attempt(LastAttempt { time, outcome, http_status, duration_millis: 1, attempt: 1 });
        };
        let all = |cells: &Cells| cells.iter().for_each(delivered);
        all(&cells);
        cells[2 * MOST].change(|_| true);
        // This Subscription's health turned long ago, and a delivery waits.
        let waits = &cells[2 * MOST + 1];
        assert_eq!(
            waits.admit(ParkQuota::default(), Waiting { deliveries: 1, bytes: 1, unattempted: 1 }, start),
            Room::Free
        );
        waits.change(|state| {
            state.urgent = false;
            false
        });
        let (cells, written) = look(cells, 0, false);
        assert_eq!(written, [named(1..MOST + 1), named(2 * MOST..2 * MOST + 2)].concat());
        all(&cells);
        let (cells, written) = look(cells, 10, false);
        let rest = [named(MOST + 1..2 * MOST), named(2 * MOST + 2..2 * MOST + 10)].concat();
        assert_eq!(written[..MOST], rest[..MOST], "before those that were written");
        assert_eq!(written[MOST..], named(2 * MOST + 1..2 * MOST + 2));
        let (cells, written) = look(cells, 20, false);
        assert_eq!((&written[..rest.len() - MOST], written.len()), (&rest[MOST..], MOST));
        all(&cells);
        assert_eq!(look(cells, 21, true).1.len(), 2 * MOST + 8, "all of them at the end");
    }
}
