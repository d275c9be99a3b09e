//! Writes health into status, within the budget of status writes.

use std::convert::Infallible;
use std::sync::Arc;

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::HEALTH_BUCKET;
use hookwright_crds::Subscription;
use hookwright_runtime::logging;
use jiff::Timestamp;
use kube::Resource;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::summary::{HealthPart, Wanted};
use crate::cache::agenda::Next;
use crate::cache::references::full_name;
use crate::context::Context;
use crate::status::budget::WritePermit;
use crate::status::write::HEALTH;

/// Writes health as it changes. Nothing is written before both buckets are read: sums over half of the keys would go
/// down and up again.
pub(crate) async fn write_all(ctx: &Context) -> Infallible {
    while !ctx.health.loaded() {
        ctx.health.changed().await;
    }
    loop {
        for key in ctx.health.take_late() {
            if let Err(error) = ctx.js.remove(HEALTH_BUCKET, &key).await {
                debug!(key, error = logging::chain(&error), "can't remove late counts");
            }
        }
        sort(ctx);
        let next = ctx.health.with_agenda(|agenda| agenda.next(Instant::now()));
        match next {
            Next::Write(_) => {
                let permit = ctx.status.budget.permit().await;
                // Health may have changed while this write waited.
                sort(ctx);
                write_next(ctx, permit).await;
            }
            Next::Wait => ctx.health.changed().await,
            Next::WaitUntil(time) => {
                let _ = tokio::time::timeout_at(time, ctx.health.changed()).await;
            }
        }
    }
}

/// Puts the Subscriptions that have changed on the agenda, by how much the change matters.
fn sort(ctx: &Context) {
    let (now, wall) = (Instant::now(), Timestamp::now());
    let changed = ctx.health.with_agenda(|agenda| agenda.take_changed(now));
    for uid in changed {
        let Some((object, old, wanted)) = compare(ctx, &uid) else { continue };
        if object.meta().deletion_timestamp.is_some() {
            continue;
        }
        let ahead = |at: Timestamp| now + at.duration_since(wall).try_into().unwrap_or_default();
        ctx.health.with_agenda(|agenda| {
            agenda.look_at(uid.clone(), wanted.again.map(ahead));
            if old != wanted.part {
                agenda.schedule(uid, old.weight_of(&wanted.part), now);
            }
        });
    }
}

/// Returns the object, what its status says, and what it should say; none if the object has gone.
fn compare(ctx: &Context, uid: &SubscriptionUid) -> Option<(Arc<Subscription>, HealthPart, Wanted)> {
    let now = Timestamp::now();
    let reading = ctx.health.read(uid, now)?;
    let object = ctx.subscriptions.own_writes.newest(&ctx.subscriptions.store.get(&reading.object)?);
    if object.meta().uid.as_deref() != Some(uid.as_str()) {
        return None;
    }
    let old = HealthPart::of(object.status.as_ref());
    let wanted = HealthPart::wanted(&object, &reading.summary, reading.disabled, now);
    Some((object, old, wanted))
}

async fn write_next(ctx: &Context, permit: WritePermit<'_>) {
    let next = ctx.health.with_agenda(|agenda| agenda.take_next(Instant::now()));
    let Some(uid) = next else { return };
    let Some((object, old, Wanted { part: new, .. })) = compare(ctx, &uid) else { return };
    if old == new || object.meta().deletion_timestamp.is_some() {
        return;
    }
    permit.spend();
    match ctx.status.write(&ctx.subscriptions, &*object, HEALTH, &new.clone().status()).await {
        Ok(true) => ctx.health.with_agenda(|agenda| {
            agenda.written(uid.clone(), Instant::now());
            // Counts may have come during the write.
            agenda.changed(uid);
        }),
        Ok(false) => return,
        Err(error) => {
            let weight = old.weight_of(&new);
            ctx.health.with_agenda(|agenda| agenda.failed(uid, weight, Instant::now()));
            if error.is_outdated() {
                return;
            }
            let (namespace, name) = (object.meta().namespace.as_deref(), object.meta().name.as_deref());
            let subscription = full_name(namespace, name);
            return warn!(subscription, error = logging::chain(&error), "can't write the health of a Subscription");
        }
    }
    ctx.status.emit(&*object, old.condition.as_slice(), new.condition.as_slice()).await;
}
