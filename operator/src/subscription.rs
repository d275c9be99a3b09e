//! Reconciles a Subscription into a sealed record from which dispatchers serve. `controllers` calls this room, and
//! `run` feeds it the answers to test deliveries.

mod apply;
mod build;
pub(crate) mod cleanup;
mod fetch;
mod status;
pub(crate) mod test_delivery;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::delivery::policy::DeliveryPolicy;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_crds::{PolicyError, Subscription, policy};
use hookwright_runtime::logging;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::cache::leases::Rollout;
use crate::cache::references::{RefersToProducer, is_foreign};
use crate::context::Context;
use crate::nats::kv::Written;
use crate::reconcile::error::ReconcileError;
use crate::reconcile::failures::jittered;
use crate::reconcile::panics;
use crate::reconcile::programmed;
use crate::refusal::Refusal;
use build::Unresolved;
use fetch::{Fetched, FoundProducer};

use status::SubscriptionOutcome;

/// How soon a missing Producer or Secret is looked for again. Secrets are not watched.
const LOOK_FOR_MISSING: Duration = Duration::from_secs(30);
/// How soon a Subscription that waits for dispatchers is looked at again, in case every signal is missed.
const LOOK_FOR_DISPATCHERS: Duration = Duration::from_secs(5);
/// How soon a Secret that the garbage collector is about to remove is looked at again.
const LOOK_FOR_GARBAGE: Duration = Duration::from_secs(2);

/// Brings NATS and the status to what the Subscription says.
pub(crate) async fn reconcile(subscription: Arc<Subscription>, ctx: &Context) -> Result<Action, ReconcileError> {
    let subscription = ctx.subscriptions.own_writes.newest(&subscription);
    let uid = SubscriptionUid::parse(&subscription.uid().unwrap_or_default())?;
    if subscription.status.as_ref().and_then(|status| status.observed_generation).is_none_or(|seen| seen < 0) {
        // The Producer counts its Subscriptions.
        ctx.triggers.producer_soon(subscription.producer_ref());
    }
    let fetched = fetch::fetch(&subscription, ctx).await;
    let (outcome, effective, error) = match &fetched {
        Ok(fetched) => {
            let policy = policy::effective(subscription.spec.delivery.as_ref(), fetched.delivery());
            let effective = fetched.producer.as_ref().and(policy.as_ref().ok()).map(policy::shown);
            match attempt(&subscription, &uid, fetched, policy, ctx).await {
                Ok(outcome) => (outcome, effective, None),
                Err(error) if error.is_outdated() => return Err(error),
                Err(error) => (SubscriptionOutcome::failed(&error), effective, Some(error)),
            }
        }
        Err(error) => {
            let before = subscription.status.as_ref().and_then(|status| status.effective_delivery.clone());
            (SubscriptionOutcome::Unresolved(Unresolved::Waiting(logging::chain(error))), before, None)
        }
    };
    let judgements = status::judge(&subscription, &outcome);
    let test = test_delivery::follow(&subscription, &uid, &outcome, &status::ready(&judgements), ctx).await;
    let (test, test_error) = match test {
        Ok(test) => (test, None),
        Err(error) => (test_delivery::unchanged(&subscription), Some(error)),
    };
    status::write(ctx, &subscription, judgements, effective, test.last).await?;
    ctx.health.touch(&uid, ObjectRef::from_obj(&*subscription));
    let fetched = fetched?;
    match error.or(test_error) {
        Some(error) => Err(error),
        None => {
            let again = again(&outcome, &fetched, &subscription, ctx);
            Ok(Action::requeue(test.again.map_or(again, |soon| soon.min(again))))
        }
    }
}

/// Shows in the status why a reconcile ended without a result.
pub(crate) async fn tell(
    subscription: &Arc<Subscription>,
    failure: Refusal,
    ctx: &Context,
) -> Result<(), ReconcileError> {
    let subscription = ctx.subscriptions.own_writes.newest(subscription);
    let judgements = status::judge(&subscription, &SubscriptionOutcome::Failed(failure));
    let effective = subscription.status.as_ref().and_then(|status| status.effective_delivery.clone());
    let test = test_delivery::unchanged(&subscription).last;
    Ok(status::write(ctx, &subscription, judgements, effective, test).await?)
}

async fn attempt(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    fetched: &Fetched,
    policy: Result<DeliveryPolicy, PolicyError>,
    ctx: &Context,
) -> Result<SubscriptionOutcome, ReconcileError> {
    panics::on_request(subscription);
    if fetched.producer.is_none() && is_foreign(subscription) {
        // This comes before the spec is looked at: without a grant nothing is served, whatever else is wrong.
        apply::withdraw(uid, subscription, ctx).await?;
        ctx.triggers.subscriptions.settled(&ObjectRef::from_obj(subscription));
        return Ok(SubscriptionOutcome::Unresolved(build::not_permitted(&subscription.producer_ref())));
    }
    let valid = match validate::validate(subscription, uid, policy) {
        Ok(valid) => valid,
        Err(refusal) => return Ok(SubscriptionOutcome::Refused(refusal)),
    };
    let record = match build::build(&valid, fetched) {
        Ok(record) => record,
        // The record stays as it was: deliveries go on as they last could, and Ready says why the spec can't be used.
        Err(unresolved) => return Ok(SubscriptionOutcome::Unresolved(unresolved)),
    };
    let written = apply::apply(record, subscription, ctx).await?;
    let rollout = rollout(subscription, fetched, &written, ctx).await?;
    Ok(SubscriptionOutcome::Applied { rollout, fresh: written.fresh, revision: written.revision })
}

/// Returns how far the dispatchers have come with the record and with the Producer's. Returns none while the Producer's
/// stream and consumer are not in place.
async fn rollout(
    subscription: &Subscription,
    fetched: &Fetched,
    written: &Written,
    ctx: &Context,
) -> Result<Option<Rollout>, ReconcileError> {
    let this = ObjectRef::from_obj(subscription);
    let is_served = |producer: &FoundProducer| !ctx.leases.unserved().contains(&producer.uid);
    let is_latched = !written.fresh && status::is_programmed(subscription);
    if is_latched && fetched.producer.as_ref().is_none_or(is_served) {
        ctx.triggers.subscriptions.settled(&this);
        return Ok(Some(Rollout::Loaded));
    }
    let Some((producer_uid, producer)) = fetched.live_producer() else { return Ok(None) };
    let revision = written.revision.max(producer.revision);
    // The trigger is set before the leases are looked at, so that a lease that comes in between is not missed.
    ctx.triggers.subscriptions.when_loaded(this.clone(), revision, producer_uid);
    let rollout = programmed::rollout(&ctx.leases, &ctx.js, revision, producer_uid).await?;
    if matches!(rollout, Rollout::Loaded | Rollout::Unserved { .. }) {
        ctx.triggers.subscriptions.settled(&this);
    }
    Ok(Some(rollout))
}

/// Returns when to look again if nothing happens.
fn again(outcome: &SubscriptionOutcome, fetched: &Fetched, subscription: &Subscription, ctx: &Context) -> Duration {
    let refresh = ctx.settings.secret_refresh;
    match outcome {
        SubscriptionOutcome::Applied { rollout: Some(Rollout::Loaded), .. } | SubscriptionOutcome::Refused(_) => {
            jittered(refresh)
        }
        SubscriptionOutcome::Unresolved(_) if fetched.waits_for_garbage_collection(subscription) => LOOK_FOR_GARBAGE,
        // The Producer triggers a reconcile when a dispatcher serves it again.
        SubscriptionOutcome::Unresolved(_)
        | SubscriptionOutcome::Applied { rollout: Some(Rollout::Unserved { .. }), .. } => {
            jittered(refresh.min(LOOK_FOR_MISSING))
        }
        _ => LOOK_FOR_DISPATCHERS,
    }
}
