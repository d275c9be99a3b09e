//! Reconciles a Subscription into a sealed record from which dispatchers serve. `controllers` calls this room, and
//! `run` feeds it the answers to test deliveries.

mod apply;
mod build;
pub(crate) mod cleanup;
mod fetch;
mod flow;
mod inputs;
mod payload;
mod signing;
mod start;
mod status;
mod stop;
pub(crate) mod test_delivery;
mod validate;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::delivery::policy::DeliveryPolicy;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_crds::{EffectivePayload, PolicyError, StartedFrom, Subscription, policy};
use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use crate::cache::failures::jittered;
use crate::cache::health::Rests;
use crate::cache::leases::{Goal, Rollout};
use crate::cache::references::{RefersToProducer, is_foreign};
use crate::context::Context;
use crate::nats::kv::Written;
use crate::reconcile::error::ReconcileError;
use crate::reconcile::identity;
use crate::reconcile::panics;
use crate::reconcile::programmed;
use crate::refusal::Refusal;
use crate::secrets::{self, SecretError};
use build::Unresolved;
pub(crate) use fetch::uses_secret;
use fetch::{Fetched, FoundProducer};
use inputs::Inputs;
use signing::GeneratedKeys;
use start::Start;
use status::{Part, SubscriptionOutcome};
use stop::{not_permitted, refuse, unread, unresolved, wait};

/// How often a Subscription that is in place is looked at, to repair what was removed. Its Secrets are read more often
/// (`background::secrets`).
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// How soon a missing Producer is looked for again, in case its signal is missed.
const LOOK_FOR_MISSING: Duration = Duration::from_secs(30);
/// How soon a Subscription that waits for dispatchers is looked at again, in case every signal is missed.
const LOOK_FOR_DISPATCHERS: Duration = Duration::from_secs(5);
/// How soon a Secret that the garbage collector is about to remove is looked at again.
const LOOK_FOR_GARBAGE: Duration = Duration::from_secs(2);

/// What a reconcile came to.
struct Attempted {
    outcome: SubscriptionOutcome,
    /// Where delivery starts because of `startFrom`.
    started: Option<StartedFrom>,
    /// Whether the record that is in place keeps events from being sent; none if that isn't known.
    rests: Option<Rests>,
    /// What has failed beside, and is to be tried again.
    error: Option<ReconcileError>,
}

impl Attempted {
    /// Returns an outcome that changes nothing about where delivery started and whether it rests.
    fn unchanged(subscription: &Subscription, outcome: SubscriptionOutcome) -> Self {
        Self { outcome, started: status::started(subscription), rests: None, error: None }
    }

    /// Returns what a reconcile that has failed came to.
    fn failed(subscription: &Subscription, error: ReconcileError) -> Self {
        let outcome = SubscriptionOutcome::failed(&error);
        Self { error: Some(error), ..Self::unchanged(subscription, outcome) }
    }
}

/// Brings NATS and the status to what the Subscription says.
pub(crate) async fn reconcile(subscription: Arc<Subscription>, ctx: &Context) -> Result<Action, ReconcileError> {
    let subscription = ctx.subscriptions.own_writes.newest(&subscription);
    let (uid, known) = identity::of(&*subscription, &ctx.identities, &ctx.js).await;
    let uid = SubscriptionUid::parse(&uid)?;
    if subscription.status.as_ref().and_then(|status| status.observed_generation).is_none_or(|seen| seen < 0) {
        // The Producer counts its Subscriptions.
        ctx.triggers.producer_soon(subscription.producer_ref());
    }
    let mut keys = signing::generated(&subscription, Timestamp::now(), ctx.settings.signing_key_overlap);
    let fetched = fetch::fetch(&subscription, &mut keys, ctx).await;
    let effective_payload = effective_payload(&subscription, fetched.as_ref().ok());
    let (attempted, effective) = match &fetched {
        Ok(fetched) => {
            let (own, inherited) = (subscription.spec.delivery.as_ref(), fetched.delivery());
            let policy = policy::effective(own, inherited);
            let shown = |policy| policy::shown(policy, policy::on_resume(own, inherited));
            let effective = fetched.producer.as_ref().and(policy.as_ref().ok()).map(shown);
            let attempted = match known {
                Ok(()) => attempt(&subscription, &uid, keys.as_mut(), fetched, policy, ctx).await,
                Err(error) => Err(error),
            };
            match attempted {
                Ok(attempted) => (attempted, effective),
                Err(error) if error.is_outdated() => return Err(error),
                Err(error) => (Attempted::failed(&subscription, error), effective),
            }
        }
        Err(error) => {
            let before = subscription.status.as_ref().and_then(|status| status.effective_delivery.clone());
            (unread(&subscription, &uid, keys.as_ref(), error, ctx).await, before)
        }
    };
    let Attempted { outcome, started, rests, error } = attempted;
    let judgements = status::judge(&subscription, &outcome, started.as_ref());
    let test = test_delivery::follow(&subscription, &uid, &outcome, &status::ready(&judgements), ctx).await;
    let failed = |error| (test_delivery::unchanged(&subscription), Some(error));
    let (test, test_error) = test.map_or_else(failed, |test| (test, None));
    let part = Part {
        effective_delivery: effective,
        effective_payload,
        last_test: test.last,
        started_from: started,
        signing: signing::status(&subscription, keys.as_ref()),
    };
    status::write(ctx, &subscription, judgements, part).await?;
    ctx.health.touch(&uid, ObjectRef::from_obj(&*subscription), rests);
    if let Some(error) = error.or(test_error) {
        return Err(error);
    }
    let soon = [keys.and_then(|keys| keys.next_in(Timestamp::now())), test.again].into_iter().flatten();
    Ok(Action::requeue(soon.fold(again(&outcome, &fetched?, &subscription), Duration::min)))
}

/// Returns what the records of a Subscription are made from.
fn made_from<'a>(subscription: &'a Subscription, fetched: &'a Fetched, ctx: &'a Context) -> Inputs<'a> {
    Inputs { subscription, fetched, ctx }
}

/// Returns in what form events go out; what the status says, if nothing could be read.
fn effective_payload(subscription: &Subscription, fetched: Option<&Fetched>) -> Option<EffectivePayload> {
    match fetched {
        Some(fetched) => {
            let spec = subscription.spec.payload.as_ref();
            fetched.producer.as_ref().map(|found| payload::shown(spec, &found.payload_policy))
        }
        None => subscription.status.as_ref().and_then(|status| status.effective_payload.clone()),
    }
}

/// Shows in the status why a reconcile ended without a result.
pub(crate) async fn tell(
    subscription: &Arc<Subscription>,
    failure: Refusal,
    ctx: &Context,
) -> Result<(), ReconcileError> {
    let subscription = ctx.subscriptions.own_writes.newest(subscription);
    let started_from = status::started(&subscription);
    let judgements = status::judge(&subscription, &SubscriptionOutcome::Failed(failure), started_from.as_ref());
    let before = subscription.status.as_ref();
    let part = Part {
        effective_delivery: before.and_then(|status| status.effective_delivery.clone()),
        effective_payload: before.and_then(|status| status.effective_payload.clone()),
        last_test: test_delivery::unchanged(&subscription).last,
        started_from,
        signing: before.and_then(|status| status.signing.clone()).unwrap_or_default(),
    };
    Ok(status::write(ctx, &subscription, judgements, part).await?)
}

async fn attempt(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    keys: Option<&mut GeneratedKeys>,
    fetched: &Fetched,
    policy: Result<DeliveryPolicy, PolicyError>,
    ctx: &Context,
) -> Result<Attempted, ReconcileError> {
    panics::on_request(subscription);
    if fetched.producer.is_none() && is_foreign(subscription) && !fetched.producer_unreadable {
        // This comes before the spec is looked at: without a grant nothing is served, whatever else is wrong.
        return not_permitted(subscription, uid, fetched, ctx).await;
    }
    let rules = ctx.egress.borrow().clone();
    let valid = validate::validate(subscription, uid, keys.as_deref(), policy, &rules.egress);
    let unreadable = Unresolved::producer_unreadable();
    if fetched.producer_unreadable {
        return wait(subscription, uid, valid.ok().as_ref(), fetched, unreadable, ctx).await;
    }
    let valid = match valid.and_then(|valid| within_quota(subscription, ctx).map(|()| valid)) {
        Ok(valid) => valid,
        Err(refusal) => {
            return refuse(subscription, uid, fetched, None, SubscriptionOutcome::Refused(refusal), ctx).await;
        }
    };
    let record = match build::build(&valid, fetched, &rules.egress) {
        Ok(record) => record,
        Err(why) => return unresolved(subscription, uid, &valid, fetched, why, ctx).await,
    };
    let started = match start::start(subscription, &valid, fetched, ctx).await? {
        Start::Done(started) => started,
        Start::Waits(rollout, started) => {
            let outcome = SubscriptionOutcome::Prepared { rollout };
            return Ok(Attempted { outcome, started, rests: None, error: None });
        }
        Start::Refused(refusal) => {
            return Ok(Attempted::unchanged(subscription, SubscriptionOutcome::Refused(refusal)));
        }
    };
    let on_resume = policy::on_resume(subscription.spec.delivery.as_ref(), fetched.delivery());
    let withheld = !record.payload_policy.is_empty();
    let written = match apply::apply(record, on_resume, made_from(subscription, fetched, ctx)).await {
        Err(ReconcileError::ProducerUnreadable) => {
            return wait(subscription, uid, Some(&valid), fetched, unreadable, ctx).await;
        }
        written => written?,
    };
    let Some(written) = written else {
        let outcome = SubscriptionOutcome::Prepared { rollout: None };
        return Ok(Attempted { outcome, started, rests: None, error: None });
    };
    if withheld && let Some(Rollout::Unread { .. }) = written.waits {
        // Dispatchers that can't read what is withheld would send it.
        let outcome =
            SubscriptionOutcome::Applied { rollout: written.waits, fresh: written.fresh, revision: written.revision };
        return refuse(subscription, uid, fetched, Some(&valid), outcome, ctx).await;
    }
    let removed = match keys {
        Some(keys) => remove_expired(keys, subscription, ctx).await,
        None => Ok(()),
    };
    let rollout = rollout(subscription, fetched, &written, ctx).await?;
    let outcome = SubscriptionOutcome::Applied { rollout, fresh: written.fresh, revision: written.revision };
    let rests = written.waits.is_none().then_some(if valid.suspended { Rests::Suspended } else { Rests::No });
    Ok(Attempted { outcome, started, rests, error: removed.err().map(ReconcileError::from) })
}

/// Removes the Secrets of keys that no longer sign. One that can't be removed stays among them.
async fn remove_expired(
    keys: &mut GeneratedKeys,
    subscription: &Subscription,
    ctx: &Context,
) -> Result<(), SecretError> {
    while let Some(former) = keys.expired.first() {
        secrets::remove(&ctx.secrets, subscription, &former.secret).await?;
        keys.expired.remove(0);
    }
    Ok(())
}

/// Checks whether the namespace may have this Subscription beside the older ones.
fn within_quota(subscription: &Subscription, ctx: &Context) -> Result<(), Refusal> {
    let namespace = subscription.namespace();
    let quota = ctx.settings.quotas.of(namespace.as_deref().unwrap_or_default());
    if ctx.subscriptions.store.len() <= quota.subscriptions {
        // All together are no more, so none has to be looked at.
        return Ok(());
    }
    let all = ctx
        .subscriptions
        .store
        .state_filter(|other| other.meta().deletion_timestamp.is_none() && other.namespace() == namespace);
    quota.admits_subscription(subscription, &all)
}

/// Returns how far the dispatchers have come with the record and with the Producer's. Returns none while the Producer's
/// stream and consumer are not in place.
async fn rollout(
    subscription: &Subscription,
    fetched: &Fetched,
    written: &Written,
    ctx: &Context,
) -> Result<Option<Rollout>, ReconcileError> {
    if written.waits.is_some() {
        return Ok(written.waits);
    }
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
    let goal = Goal::Config(revision);
    ctx.triggers.subscriptions.when_loaded(this.clone(), goal, producer_uid);
    let rollout = programmed::rollout(&ctx.leases, &ctx.js, goal, producer_uid).await?;
    if matches!(rollout, Rollout::Loaded | Rollout::Unserved { .. }) {
        ctx.triggers.subscriptions.settled(&this);
    }
    Ok(Some(rollout))
}

/// Returns when to look again if nothing happens.
fn again(outcome: &SubscriptionOutcome, fetched: &Fetched, subscription: &Subscription) -> Duration {
    match outcome {
        SubscriptionOutcome::Applied { rollout: Some(Rollout::Loaded), .. } | SubscriptionOutcome::Refused(_) => {
            jittered(LOOK_AGAIN)
        }
        SubscriptionOutcome::Unresolved(_) if fetched.waits_for_garbage_collection(subscription) => LOOK_FOR_GARBAGE,
        // The Producer triggers a reconcile when a dispatcher serves it again.
        SubscriptionOutcome::Unresolved(_)
        | SubscriptionOutcome::Applied { rollout: Some(Rollout::Unserved { .. }), .. } => jittered(LOOK_FOR_MISSING),
        _ => LOOK_FOR_DISPATCHERS,
    }
}
