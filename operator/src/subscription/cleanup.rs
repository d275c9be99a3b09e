//! Removes what a Subscription left in NATS. Kubernetes removes its generated Secret by the owner reference.

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{
    self, CONFIG_BUCKET, CURSORS_BUCKET, HEALTH_BUCKET, POSITIONS_BUCKET, STATE_BUCKET,
};
use hookwright_crds::Subscription;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::cache::references::RefersToProducer;
use crate::context::Context;
use crate::nats::jetstream::{JetStream, JsResult};
use crate::nats::tombstones;
use crate::quotas;
use crate::reconcile::deletion;
use crate::reconcile::error::ReconcileError;

pub(crate) async fn cleanup(subscription: &Subscription, ctx: &Context) -> Result<(), ReconcileError> {
    let uid = SubscriptionUid::parse(&ctx.identities.of(subscription))?;
    ctx.triggers.subscriptions.settled(&ObjectRef::from_obj(subscription));
    let result = remove(&uid, ctx).await;
    deletion::or_let_go(result, subscription, ctx.deletion()).await?;
    ctx.subscriptions.own_writes.forget(&subscription.uid().unwrap_or_default());
    ctx.fences.forget(&subscription.uid().unwrap_or_default());
    ctx.triggers.producer_soon(subscription.producer_ref());
    // One that had no room may have it now.
    let is_beyond = |other: &Subscription| {
        let conditions = other.status.as_ref().and_then(|status| status.conditions.as_deref());
        other.namespace() == subscription.namespace() && quotas::is_beyond(conditions)
    };
    for waiting in ctx.subscriptions.store.state_filter(is_beyond) {
        ctx.triggers.subscriptions.reconcile(ObjectRef::from_obj(&*waiting));
    }
    Ok(())
}

async fn remove(uid: &SubscriptionUid, ctx: &Context) -> JsResult<()> {
    let js: &JetStream = &ctx.js;
    tombstones::put(js, uid).await?;
    // The record may be under any Producer's uid, as a Producer of the same name may have been deleted and created
    // again.
    js.remove_matching(CONFIG_BUCKET, &format!("subscription.*.{uid}")).await?;
    js.remove_matching(STATE_BUCKET, &names::disabled_key(uid)).await?;
    js.remove_matching(STATE_BUCKET, &names::test_key(uid)).await?;
    // Without the mark, a dispatcher would take a position that has gone for a live Subscription.
    js.remove_matching(POSITIONS_BUCKET, uid.as_str()).await?;
    js.remove_matching(CURSORS_BUCKET, uid.as_str()).await?;
    // Counts of this Subscription that come from now on are late.
    ctx.health.gone(uid);
    js.remove_matching(HEALTH_BUCKET, &format!("{uid}.*")).await
}
