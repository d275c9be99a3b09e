//! Removes the marks of deleted Subscriptions once nothing is parked for them any more, and marks those of which only
//! parked deliveries are left: they were deleted while NATS was away, or their mark was lost.

use futures::StreamExt;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{
    CONFIG_BUCKET, CURSORS_BUCKET, DELETED_KEYS, PARKED_STREAM, POSITIONS_BUCKET, deleted_key, parked_at_all,
    parked_due, parse_deleted_key,
};
use hookwright_crds::Subscription;
use hookwright_runtime::logging;
use jiff::{SignedDuration, Timestamp};
use tracing::{debug, warn};

use crate::background::Periodic;
use crate::background::sweep::{self, SweepError};
use crate::context::Context;
use crate::faults;
use crate::nats::jetstream::JsResult;
use crate::nats::tombstones;

/// How many marks a turn looks at, and how many Subscriptions it marks.
const LOOK: usize = 500;
const AT_ONCE: usize = 8;
/// How long a mark stays at least. A dispatcher may have a delivery in hand that it parks later.
const KEEP: SignedDuration = SignedDuration::from_mins(10);

/// The round of the marks.
#[derive(Default)]
pub(crate) struct Tombstones {
    /// The key that was looked at last.
    last: String,
}

impl Periodic for Tombstones {
    async fn turn(&mut self, ctx: &Context) {
        if let Err(error) = self.clear(ctx).await {
            debug!(error = logging::chain(&error), "can't look at the marks of deleted Subscriptions");
        }
        if let Err(error) = mark_orphans(ctx).await {
            debug!(error = logging::chain(&error), "can't look for parked deliveries of deleted Subscriptions");
        }
    }
}

impl Tombstones {
    /// Looks at the next marks, and removes those that are no longer needed.
    async fn clear(&mut self, ctx: &Context) -> JsResult<()> {
        let mut keys = ctx.js.keys(CONFIG_BUCKET, DELETED_KEYS).await?;
        keys.sort_unstable();
        let some = next(&keys, &self.last);
        self.last = some.last().cloned().unwrap_or_default();
        let now = ctx.js.time().await?;
        let looks = some.iter().map(|key| async move {
            if let Some(Err(error)) = faults::one(key, clear_one(ctx, key, now)).await {
                debug!(key, error = logging::chain(&error), "can't look at the mark of a deleted Subscription");
            }
        });
        futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect::<()>().await;
        Ok(())
    }
}

/// Returns the keys after `last`, or the first ones if there are none.
fn next<'a>(sorted: &'a [String], last: &str) -> &'a [String] {
    let start = sorted.partition_point(|key| key.as_str() <= last);
    let rest = if start < sorted.len() { &sorted[start..] } else { sorted };
    &rest[..rest.len().min(LOOK)]
}

async fn clear_one(ctx: &Context, key: &str, now: Timestamp) -> JsResult<()> {
    let Some(uid) = parse_deleted_key(key) else { return Ok(()) };
    let mark = ctx.js.newest(CONFIG_BUCKET, key).await?;
    if mark.value.is_none() || now.duration_since(mark.stored) < KEEP || is_parked(ctx, &uid).await? {
        return Ok(());
    }
    // A dispatcher may have written them after the Subscription was deleted. It may also be there again, with its uid: the
    // API server's data were restored from an earlier moment.
    if ctx.js.keys(CONFIG_BUCKET, &format!("subscription.*.{uid}")).await?.is_empty() {
        ctx.js.remove_matching(POSITIONS_BUCKET, uid.as_str()).await?;
        ctx.js.remove_matching(CURSORS_BUCKET, uid.as_str()).await?;
    }
    ctx.js.remove_at(CONFIG_BUCKET, key, mark.revision).await.map(drop)
}

/// Returns whether a delivery of the Subscription waits or is due.
async fn is_parked(ctx: &Context, uid: &SubscriptionUid) -> JsResult<bool> {
    Ok(ctx.js.count_subjects(PARKED_STREAM, &parked_at_all(uid)).await? > 0
        || ctx.js.count_messages(PARKED_STREAM, &parked_due(uid)).await? > 0)
}

/// Marks the Subscriptions that have had no object for an hour, and have no record.
async fn mark_orphans(ctx: &Context) -> Result<(), SweepError> {
    let ripe = ctx.orphans.ripe(LOOK);
    if ripe.is_empty() {
        return Ok(());
    }
    let living = sweep::uids::<Subscription>(ctx, "Subscription").await?;
    for uid in ripe {
        if !living.contains(uid.as_str()) && !is_known(ctx, &uid).await? {
            tombstones::put(&ctx.js, &uid).await?;
            warn!(subscription_uid = %uid, "found parked deliveries of a Subscription that is gone; they are dropped");
        }
        ctx.orphans.forget(&uid);
    }
    Ok(())
}

/// Returns whether the Subscription has a record, or is marked as deleted.
async fn is_known(ctx: &Context, uid: &SubscriptionUid) -> JsResult<bool> {
    let records = ctx.js.keys(CONFIG_BUCKET, &format!("subscription.*.{uid}")).await?;
    for key in records.into_iter().chain([deleted_key(uid)]) {
        if ctx.js.get(CONFIG_BUCKET, &key).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_takes_each_key_once_and_starts_again() {
        let keys: Vec<String> = (0..1_200).map(|n| format!("deleted.{n:04}")).collect();
        let (mut last, mut sizes) = (String::new(), Vec::new());
        for _ in 0..4 {
            let some = next(&keys, &last);
            sizes.push((some[0].clone(), some.len()));
            last = some.last().unwrap().clone();
        }
        let start = |n: usize, len| (format!("deleted.{n:04}"), len);
        assert_eq!(sizes, [start(0, LOOK), start(500, LOOK), start(1_000, 200), start(0, LOOK)]);
        assert!(next(&[], "deleted.x").is_empty());
    }
}
