//! Stops what may not be sent, or not yet, when a Subscription can't be made into a record.

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_crds::{Subscription, policy};
use kube::runtime::reflector::ObjectRef;

use super::build::{self, Unresolved};
use super::fetch::{self, Fetched};
use super::signing::GeneratedKeys;
use super::status::SubscriptionOutcome;
use super::validate::{self, ValidatedSubscription};
use super::{Attempted, apply, made_from};
use crate::cache::health::Rests;
use crate::cache::references::RefersToProducer;
use crate::context::Context;
use crate::reconcile::error::ReconcileError;
use crate::secrets::SecretError;

/// Returns what a reconcile came to for which a Secret could not be read or created.
pub(super) async fn unread(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    keys: Option<&GeneratedKeys>,
    error: &SecretError,
    ctx: &Context,
) -> Attempted {
    let outcome = SubscriptionOutcome::Unresolved(Unresolved::unread(error));
    let attempted = Attempted::unchanged(subscription, outcome);
    match hold_back(subscription, uid, keys, ctx).await {
        Ok(rests) => Attempted { rests, ..attempted },
        Err(error) => Attempted { error: Some(error), ..attempted },
    }
}

/// Sees to it that a Secret that can't be read keeps neither an earlier spec nor an older policy of the Producer in place.
/// Returns whether the record keeps events from being sent, if it does.
async fn hold_back(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    keys: Option<&GeneratedKeys>,
    ctx: &Context,
) -> Result<Option<Rests>, ReconcileError> {
    let fetched = fetch::found(subscription, ctx).await;
    let inherited = fetched.producer.as_ref().and_then(|producer| producer.delivery.as_ref());
    let policy = policy::effective(subscription.spec.delivery.as_ref(), inherited);
    let rules = ctx.egress.borrow().clone();
    let valid = validate::validate(subscription, uid, keys, policy, &rules.egress).ok();
    stop(subscription, uid, valid.as_ref(), &fetched, ctx).await
}

/// Waits until it is known what the spec refers to. Neither an earlier spec nor an older policy of the Producer stays in
/// place meanwhile. `valid` is the spec, if that can be used.
pub(super) async fn wait(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    valid: Option<&ValidatedSubscription>,
    fetched: &Fetched,
    waiting: Unresolved,
    ctx: &Context,
) -> Result<Attempted, ReconcileError> {
    let rests = stop(subscription, uid, valid, fetched, ctx).await?;
    let outcome = SubscriptionOutcome::Unresolved(waiting);
    Ok(Attempted { rests, ..Attempted::unchanged(subscription, outcome) })
}

/// Returns what a reconcile came to that can't make a record of a valid spec.
pub(super) async fn unresolved(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    valid: &ValidatedSubscription,
    fetched: &Fetched,
    why: Unresolved,
    ctx: &Context,
) -> Result<Attempted, ReconcileError> {
    match why {
        // The list may be long in coming.
        Unresolved::Waiting(_) if fetched.services_unlisted => {
            wait(subscription, uid, Some(valid), fetched, why, ctx).await
        }
        // A look at the Producer comes at once.
        Unresolved::Waiting(_) => Ok(Attempted::unchanged(subscription, SubscriptionOutcome::Unresolved(why))),
        Unresolved::Broken(_) | Unresolved::NotPermitted(_) => {
            refuse(subscription, uid, fetched, Some(valid), SubscriptionOutcome::Unresolved(why), ctx).await
        }
    }
}

/// Stops what an earlier spec or an older policy of the Producer has in place. Returns whether the record keeps events from
/// being sent, if it does.
async fn stop(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    valid: Option<&ValidatedSubscription>,
    fetched: &Fetched,
    ctx: &Context,
) -> Result<Option<Rests>, ReconcileError> {
    let rests = apply::stop_earlier(uid, valid, made_from(subscription, fetched, ctx)).await?;
    if let Some(producer) = &fetched.producer {
        apply::withhold(uid, producer, made_from(subscription, fetched, ctx)).await?;
    }
    Ok(rests.then_some(Rests::Refused))
}

/// Stops what a Producer of another namespace doesn't permit, or no longer.
pub(super) async fn not_permitted(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    fetched: &Fetched,
    ctx: &Context,
) -> Result<Attempted, ReconcileError> {
    // A Producer that is gone is served to nobody, so the record stays, for the Producer that takes up the stream.
    if !fetched.producer_is_gone {
        apply::withdraw(uid, made_from(subscription, fetched, ctx)).await?;
    }
    ctx.triggers.subscriptions.settled(&ObjectRef::from_obj(subscription));
    let outcome = SubscriptionOutcome::Unresolved(build::not_permitted(&subscription.producer_ref()));
    Ok(Attempted::unchanged(subscription, outcome))
}

/// Stops what was delivered until now: the spec, or something that it refers to, can't be used as it is.
pub(super) async fn refuse(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    fetched: &Fetched,
    valid: Option<&ValidatedSubscription>,
    outcome: SubscriptionOutcome,
    ctx: &Context,
) -> Result<Attempted, ReconcileError> {
    let mut attempted = Attempted::unchanged(subscription, outcome);
    if let Some(producer) = &fetched.producer
        && apply::refuse(uid, producer, valid, made_from(subscription, fetched, ctx)).await?
    {
        attempted.rests = Some(Rests::Refused);
    }
    Ok(attempted)
}
