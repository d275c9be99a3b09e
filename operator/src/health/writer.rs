//! Writes health into status, within the budget of status writes.

use std::convert::Infallible;
use std::sync::Arc;

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::HEALTH_BUCKET;
use hookwright_crds::{ConditionType, Reason, Subscription};
use hookwright_runtime::logging;
use jiff::Timestamp;
use kube::Resource;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::summary::{HealthPart, Wanted};
use super::{cursors, flow};
use crate::cache::agenda::Next;
use crate::cache::failures::Work;
use crate::cache::references::full_name;
use crate::context::Context;
use crate::faults;
use crate::reconcile::told::{self, Failed};
use crate::status::budget::WritePermit;
use crate::status::conditions::find;
use crate::status::events::{self, Action};
use crate::status::write::{HEALTH, StatusError};

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
                faults::one("a write of health", write_next(ctx, permit)).await;
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
        let Some((object, old, wanted)) = faults::one_at_once(&uid, || compare(ctx, &uid)).flatten() else {
            continue;
        };
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
    let mut reading = ctx.health.read(uid, now)?;
    let differ = || !ctx.leases.with_other_rules(&ctx.egress.borrow().digest).is_empty();
    reading.rests = flow::with_dispatchers(reading.rests, &reading.progress, differ);
    let object = ctx.subscriptions.own_writes.newest(&ctx.subscriptions.store.get(&reading.object)?);
    if ctx.identities.of(&*object) != uid.as_str() {
        return None;
    }
    let old = HealthPart::of(object.status.as_ref());
    let wanted = HealthPart::wanted(&object, &reading, cursors::head(ctx, &object), now);
    Some((object, old, wanted))
}

async fn write_next(ctx: &Context, permit: WritePermit<'_>) {
    let next = ctx.health.with_agenda(|agenda| agenda.take_next(Instant::now()));
    let Some(uid) = next else { return };
    let Some((object, old, Wanted { part: new, .. })) = compare(ctx, &uid) else { return };
    let work = Work::health(&*object);
    if old == new || object.meta().deletion_timestamp.is_some() {
        return ctx.failures.succeeded(&work);
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
            if error.is_outdated() && ctx.failures.is_usual_change(&work) {
                return;
            }
            return not_written(ctx, &object, &work, error).await;
        }
    }
    ctx.failures.succeeded(&work);
    ctx.status.emit(&*object, &old.conditions, &new.conditions).await;
    tell_missed(ctx, &object, &old, &new).await;
}

/// Tells that the health can't be written. It is tried again.
async fn not_written(ctx: &Context, object: &Subscription, work: &Work, error: StatusError) {
    let subscription = full_name(object.meta().namespace.as_deref(), object.meta().name.as_deref());
    warn!(subscription, error = logging::chain(&error), "can't write the health of a Subscription");
    let refused = Failed::ApplyFailed(error.into());
    told::tell(object, work, &refused, &ctx.failures, &ctx.status.recorder).await;
    ctx.failures.failed(work);
}

/// Counts the events that the stream dropped, and emits an Event if an earlier loss is still told: the condition is no
/// news then.
async fn tell_missed(ctx: &Context, object: &Subscription, old: &HealthPart, new: &HealthPart) {
    let missed = |part: &HealthPart| part.delivery.as_ref().and_then(|delivery| delivery.missed.clone());
    let (before, after) = (missed(old), missed(new));
    ctx.metrics.events_missed.inc_by(flow::newly_missed(before.as_ref(), after.as_ref()));
    let is_told = |part: &HealthPart| find(&part.conditions, ConditionType::EventsMissed).cloned();
    if let (Some(_), Some(condition)) = (is_told(old), is_told(new))
        && flow::is_new_spell(before.as_ref(), after.as_ref())
    {
        let recorder = &ctx.status.recorder;
        events::warning(recorder, object, Reason::EventsMissed, Action::Reconcile, &condition.message).await;
    }
}
