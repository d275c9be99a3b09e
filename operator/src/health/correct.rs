//! Corrects `retrying` by what the stream of parked deliveries holds. `hookwright_core::delivery::health::correction` has the
//! rules.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use hookwright_core::delivery::health::Waiting;
use hookwright_core::delivery::health::correction::{Look, Looks, Suspicion};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{PARKED_STREAM, parked_at_all, parked_due};
use hookwright_runtime::logging;
use tokio::time::Instant;
use tracing::{debug, info};

use super::base;
use crate::background::Periodic;
use crate::context::Context;
use crate::faults;
use crate::nats::jetstream::JsResult;

/// How often all Subscriptions with waiting deliveries are looked at. In between, only those are looked at whose counts
/// may be wrong because a dispatcher has gone.
const EVERY: Duration = Duration::from_secs(60);
/// The time between two looks. It is longer than dispatchers take to write their counts.
const APART: Duration = Duration::from_secs(6);

/// The correction, with what it remembers between its turns.
pub(crate) struct Correct {
    suspicions: HashMap<SubscriptionUid, Suspicion>,
    /// When all Subscriptions were looked at last.
    last: Instant,
}

impl Default for Correct {
    fn default() -> Self {
        Self { suspicions: HashMap::new(), last: Instant::now() }
    }
}

impl Periodic for Correct {
    async fn turn(&mut self, ctx: &Context) {
        if !ctx.health.loaded() {
            return;
        }
        let mut uids: BTreeSet<SubscriptionUid> = ctx.health.take_suspects().into_iter().collect();
        if self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            uids.extend(ctx.health.retrying());
            self.suspicions.retain(|uid, _| uids.contains(uid));
        }
        if !uids.is_empty() {
            correct(ctx, &uids, &mut self.suspicions).await;
        }
    }
}

async fn correct(
    ctx: &Context,
    uids: &BTreeSet<SubscriptionUid>,
    suspicions: &mut HashMap<SubscriptionUid, Suspicion>,
) {
    let start = Instant::now();
    let mut firsts = Vec::new();
    for uid in uids {
        firsts.push(faults::one(uid, look(ctx, uid)).await.flatten());
    }
    tokio::time::sleep_until(start.max(Instant::now()) + APART).await;
    for (uid, first) in uids.iter().zip(firsts) {
        let second = faults::one(uid, look(ctx, uid)).await.flatten();
        let (Some((first, _)), Some((second, revision))) = (first, second) else { continue };
        let drift = suspicions.entry(uid.clone()).or_default().correction(Looks { first, second });
        if drift == Waiting::default() {
            continue;
        }
        // Another operator may have seen the same, and corrected it since.
        match base::change_at(&ctx.js, uid, revision, |base| base.correct(drift)).await {
            Ok(true) => info!(subscription_uid = %uid, ?drift, "corrected the count of waiting deliveries"),
            Ok(false) => debug!(subscription_uid = %uid, "the base has changed since the look"),
            Err(error) => {
                debug!(subscription_uid = %uid, error = logging::chain(&error), "can't correct the count of waiting deliveries yet")
            }
        }
    }
}

/// Looks at a Subscription, and returns also the revision of the base in the counts. Returns none if NATS doesn't
/// answer, or the Subscription has gone.
async fn look(ctx: &Context, uid: &SubscriptionUid) -> Option<(Look, u64)> {
    let waiting = match waiting(ctx, uid).await {
        Ok(waiting) => waiting,
        Err(error) => {
            debug!(subscription_uid = %uid, error = logging::chain(&error), "can't count the waiting deliveries");
            return None;
        }
    };
    let (counted, changes, revision) = ctx.health.waiting(uid)?;
    Some((Look { waiting, counted, changes }, revision))
}

/// Returns how many deliveries wait for their time, or are due and not settled yet.
async fn waiting(ctx: &Context, uid: &SubscriptionUid) -> JsResult<i64> {
    let due = ctx.js.count_messages(PARKED_STREAM, &parked_due(uid)).await?;
    let scheduled = ctx.js.count_subjects(PARKED_STREAM, &parked_at_all(uid)).await?;
    Ok(i64::try_from(due.saturating_add(scheduled)).unwrap_or(i64::MAX))
}
