//! Runs a reader for each Subscription that is not live and whose slot this dispatcher has.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hookwright_core::nats::ids::SubscriptionUid;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::catch_up::work::{Parts, Reader};
use crate::config::index::Lookup;
use crate::panics;

/// How long a change may go unnoticed.
const LOOK: Duration = Duration::from_secs(1);
/// How often what is known about deleted Subscriptions is forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// How long a Subscription waits for another reader whose reader has panicked.
const AFTER_PANIC: Duration = Duration::from_secs(10);

/// Runs until `stop` and until all readers have ended after it.
pub(crate) async fn run(parts: Arc<Parts>, stop: CancellationToken) {
    let mut running: HashMap<SubscriptionUid, Id> = HashMap::new();
    let mut tasks: JoinSet<SubscriptionUid> = JoinSet::new();
    let mut looked = Instant::now();
    let (mut positions, mut slots) = (parts.positions.cells.changes(), parts.slots.changes());
    while !stop.is_cancelled() {
        positions.borrow_and_update();
        slots.borrow_and_update();
        parts.blocks.forget_old();
        if looked.elapsed() >= FORGET {
            looked = Instant::now();
            parts.positions.cells.forget_unused();
        }
        for cell in parts.positions.cells.behind() {
            let uid = cell.uid().clone();
            if cell.known().removed && matches!(parts.deliverer.index.lookup(&uid), Lookup::Deleted) {
                cell.forget();
                continue;
            }
            if !running.contains_key(&uid) && parts.slots.owns(&uid) {
                let reader = Reader::new(Arc::clone(&parts), cell, stop.clone());
                let task = tasks.spawn(read(reader, stop.clone()));
                running.insert(uid, task.id());
            }
        }
        let changed = async {
            tokio::select! {
                _ = positions.changed() => {}
                _ = slots.changed() => {}
                Some(ended) = tasks.join_next_with_id() => match ended {
                    Ok((_, uid)) => drop(running.remove(&uid)),
                    // A panic is caught in the task, and nobody aborts it.
                    Err(failure) => running.retain(|_, id| *id != failure.id()),
                },
            }
        };
        let _ = stop.run_until_cancelled(timeout(LOOK, changed)).await;
    }
    while tasks.join_next().await.is_some() {}
}

/// Runs a reader. If it panics, its Subscription gets another one a while later: what it panicked at is still there.
async fn read(reader: Reader, stop: CancellationToken) -> SubscriptionUid {
    let uid = reader.uid().clone();
    if let Err(panic) = AssertUnwindSafe(reader.run()).catch_unwind().await {
        let panic = panics::message(&*panic);
        error!(subscription_uid = %uid, panic, "a dedicated reader panicked; trying again in {AFTER_PANIC:?}");
        stop.run_until_cancelled(sleep(AFTER_PANIC)).await;
    }
    uid
}
