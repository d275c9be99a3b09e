//! Reconciles a Subscription: a sealed record that dispatchers serve from.

mod apply;
mod build;
mod cleanup;
mod fetch;
mod status;
pub(crate) mod test_delivery;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::nats::ids::{InvalidUid, SubscriptionUid};
use hookwright_crds::policy;
use hookwright_crds::{Delivery, Subscription};
use hookwright_runtime::logging;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::cache::leases::Rollout;
use crate::cache::references::{RefersToProducer, is_foreign};
use crate::context::Context;
use crate::nats::jetstream::JsError;
use crate::reconcile::failures::jittered;
use crate::reconcile::programmed;
use crate::secrets::SecretError;
use crate::status::write::StatusError;
pub(crate) use cleanup::cleanup;

/// A Subscription could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscriptionError {
    #[error("the API server gave a strange uid")]
    Uid(#[from] InvalidUid),
    #[error("can't fetch what the Subscription refers to")]
    Fetch(#[from] SecretError),
    #[error("can't put the record in place")]
    Apply(#[from] apply::ApplyError),
    #[error("can't ask for the dispatchers' leases")]
    Leases(#[source] JsError),
    #[error(transparent)]
    Test(#[from] test_delivery::TestError),
    #[error("can't clean up")]
    Cleanup(#[source] JsError),
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// How soon something that is missing is looked for again; a change of a Secret is not watched.
const LOOK_FOR_MISSING: Duration = Duration::from_secs(30);
/// How soon one that waits for dispatchers is looked at again, should every signal be missed.
const LOOK_FOR_DISPATCHERS: Duration = Duration::from_secs(5);
/// How soon a Secret that the garbage collector is about to remove is looked at again.
const LOOK_FOR_GARBAGE: Duration = Duration::from_secs(2);

/// Brings NATS and the status to what the Subscription says.
pub(crate) async fn reconcile(subscription: Arc<Subscription>, ctx: &Context) -> Result<Action, SubscriptionError> {
    let subscription = ctx.subscriptions.own_writes.newest(&subscription);
    let uid = SubscriptionUid::parse(&subscription.uid().unwrap_or_default())?;
    if subscription.status.as_ref().and_then(|status| status.observed_generation).is_none_or(|seen| seen < 0) {
        // The Producer counts its Subscriptions.
        ctx.triggers.producer_soon(subscription.producer_ref());
    }
    let (fetched, unread) = match fetch::fetch(&subscription, ctx).await {
        Ok(fetched) => (fetched, None),
        Err(error) => (fetch::Fetched::default(), Some(error)),
    };
    let effective = effective(&subscription, unread.is_none().then_some(&fetched));
    let (found, error) = match unread {
        Some(error) => {
            (status::Outcome::Unresolved(build::Unresolved::Waiting(logging::chain(&error))), Some(error.into()))
        }
        None => match attempt(&subscription, &uid, &fetched, ctx).await {
            Ok(found) => (found, None),
            Err(error) => (status::Outcome::failed(&error), Some(error)),
        },
    };
    let ready = status::ready(&subscription, &found);
    let test = test_delivery::follow(&subscription, &uid, &found, &ready, ctx).await;
    let (test, error) = match test {
        Ok(test) => (test, error),
        Err(failed) => (test_delivery::unchanged(&subscription), error.or_else(|| Some(failed.into()))),
    };
    status::write(ctx, &subscription, &found, effective, test.last).await?;
    ctx.health.touch(&uid, ObjectRef::from_obj(&*subscription));
    match error {
        Some(error) => Err(error),
        None => {
            let again = again(&found, &fetched, &subscription, ctx);
            Ok(Action::requeue(test.again.map_or(again, |soon| soon.min(again))))
        }
    }
}

async fn attempt(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    fetched: &fetch::Fetched,
    ctx: &Context,
) -> Result<status::Outcome, SubscriptionError> {
    if fetched.producer.is_none() && is_foreign(subscription) {
        // Before the spec is looked at: whoever is shut out is shut out, whatever else is wrong.
        apply::withdraw(uid, ctx).await?;
        ctx.triggers.subscriptions.settled(&ObjectRef::from_obj(subscription));
        return Ok(status::Outcome::Unresolved(build::not_permitted(&subscription.producer_ref())));
    }
    let valid = match validate::validate(subscription, uid, fetched.delivery()) {
        Ok(valid) => valid,
        Err(refusal) => return Ok(status::Outcome::Refused(refusal)),
    };
    let record = match build::build(&valid, fetched) {
        Ok(record) => record,
        // The record stays as it was: deliveries go on as they last could, and Ready says why the spec can't be used.
        Err(unresolved) => return Ok(status::Outcome::Unresolved(unresolved)),
    };
    let written = apply::apply(record, ctx).await?;
    let rollout = loaded(subscription, fetched, &written, ctx).await?;
    Ok(status::Outcome::Applied { rollout, fresh: written.fresh, revision: written.revision })
}

/// Whether all dispatchers serve the record, and the Producer's, and the consumer is there; none while the Producer's
/// part isn't.
async fn loaded(
    subscription: &Subscription,
    fetched: &fetch::Fetched,
    written: &apply::Written,
    ctx: &Context,
) -> Result<Option<Rollout>, SubscriptionError> {
    let this = ObjectRef::from_obj(subscription);
    let is_served = |producer: &fetch::FoundProducer| !ctx.leases.unserved().contains(&producer.uid);
    if !written.fresh && status::is_latched(subscription) && fetched.producer.as_ref().is_none_or(is_served) {
        ctx.triggers.subscriptions.settled(&this);
        return Ok(Some(Rollout::Loaded));
    }
    let Some((producer_uid, producer)) = fetched.live_producer() else { return Ok(None) };
    let revision = written.revision.max(producer.revision);
    // First the note, then the look: a lease that comes in between is not missed.
    ctx.triggers.subscriptions.when_loaded(this.clone(), revision, producer_uid);
    let rollout =
        programmed::rollout(&ctx.leases, &ctx.js, revision, producer_uid).await.map_err(SubscriptionError::Leases)?;
    if matches!(rollout, Rollout::Loaded | Rollout::Unserved { .. }) {
        ctx.triggers.subscriptions.settled(&this);
    }
    Ok(Some(rollout))
}

/// The delivery policy as status shows it; none while there is no Producer to inherit from, and as before where nothing
/// could be fetched.
fn effective(subscription: &Subscription, fetched: Option<&fetch::Fetched>) -> Option<Delivery> {
    let Some(fetched) = fetched else { return subscription.status.as_ref()?.effective_delivery.clone() };
    fetched.producer.as_ref()?;
    let policy = policy::effective(subscription.spec.delivery.as_ref(), fetched.delivery()).ok()?;
    Some(policy::shown(&policy))
}

/// When to look again if nothing happens.
fn again(found: &status::Outcome, fetched: &fetch::Fetched, subscription: &Subscription, ctx: &Context) -> Duration {
    let refresh = ctx.settings.secret_refresh;
    match found {
        status::Outcome::Applied { rollout: Some(Rollout::Loaded), .. } | status::Outcome::Refused(_) => {
            jittered(refresh)
        }
        status::Outcome::Unresolved(_) if fetched.waits_for_garbage_collection(subscription) => LOOK_FOR_GARBAGE,
        // The Producer tells when one serves it again.
        status::Outcome::Unresolved(_) | status::Outcome::Applied { rollout: Some(Rollout::Unserved { .. }), .. } => {
            jittered(refresh.min(LOOK_FOR_MISSING))
        }
        _ => LOOK_FOR_DISPATCHERS,
    }
}
