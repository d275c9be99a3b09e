//! Writes health into status, within the budget.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hookwright_core::ids::SubscriptionUid;
use hookwright_core::names::HEALTH_BUCKET;
use hookwright_crds::Subscription;
use hookwright_runtime::logging;
use kube::{Api, Resource, ResourceExt};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{debug, warn};

use super::Reading;
use super::agenda::Next;
use super::summary::Part;
use crate::conditions;
use crate::context::Context;
use crate::events;
use crate::metrics::Kind;
use crate::status::{self, HEALTH};

/// 20 writes a second.
const BUDGET: Duration = Duration::from_millis(50);

/// Writes for ever. Nothing before both buckets are loaded: sums over half of the keys would go down and up again.
pub(crate) async fn write_all(ctx: Arc<Context>) -> Infallible {
    let mut budget = tokio::time::interval(BUDGET);
    budget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !ctx.health.loaded() {
        ctx.health.wake.notified().await;
    }
    loop {
        for key in ctx.health.take_late() {
            if let Err(error) = ctx.js.remove(HEALTH_BUCKET, &key).await {
                debug!(key, error = logging::chain(&error), "late counts stay");
            }
        }
        sort(&ctx);
        let next = ctx.health.state().agenda.next(Instant::now());
        match next {
            Next::Write(uid) => write(&ctx, uid, &mut budget).await,
            Next::Wait => ctx.health.wake.notified().await,
            Next::WaitUntil(time) => {
                let _ = tokio::time::timeout_at(time, ctx.health.wake.notified()).await;
            }
        }
    }
}

/// Puts what has changed on the agenda, as a transition or as a count.
fn sort(ctx: &Context) {
    let changed = ctx.health.state().agenda.take_changed();
    for uid in changed {
        let Some((object, _, old, new)) = compare(ctx, &uid) else { continue };
        if object.meta().deletion_timestamp.is_some() || old == new {
            continue;
        }
        let agenda = &mut ctx.health.state().agenda;
        if old.turns_into(&new) { agenda.urgent(uid) } else { agenda.counted(uid, Instant::now()) }
    }
}

/// The object, what its status says and what it should say; none if the object has gone.
fn compare(ctx: &Context, uid: &SubscriptionUid) -> Option<(Arc<Subscription>, Reading, Part, Part)> {
    let reading = ctx.health.read(uid)?;
    let object = ctx.latest_subscriptions.of(&ctx.subscriptions.get(&reading.object)?);
    if object.meta().uid.as_deref() != Some(uid.as_str()) {
        return None;
    }
    let old = Part::of(object.status.as_ref());
    let new = Part::wanted(&object, &reading.summary, reading.disabled, conditions::now());
    Some((object, reading, old, new))
}

async fn write(ctx: &Context, uid: SubscriptionUid, budget: &mut Interval) {
    let Some((object, _, old, new)) = compare(ctx, &uid) else { return };
    if old == new || object.meta().deletion_timestamp.is_some() {
        return;
    }
    budget.tick().await;
    let api = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    match status::write(&api, &*object, HEALTH, &new.clone().status()).await {
        Ok(answer) => {
            ctx.health.state().agenda.written(uid, Instant::now());
            ctx.latest_subscriptions.remember(answer);
            ctx.metrics.status_writes.get_or_create(&Kind { kind: "Subscription" }).inc();
            events::transitions(&ctx.recorder, &*object, old.condition.as_slice(), new.condition.as_slice()).await;
        }
        Err(error) if error.is_gone() => {}
        Err(error) => {
            warn!(subscription = %object.name_any(), error = logging::chain(&error), "health is not written");
            ctx.health.state().agenda.failed(uid, Instant::now());
        }
    }
}
