//! Reconciles a Producer: a stream, a consumer that all dispatchers share, and a record that tells them of both.

mod apply;
mod build;
mod cleanup;
mod enforce;
mod fetch;
pub(crate) mod refresh;
mod status;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::nats::ids::{InvalidUid, ProducerUid};
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_crds::{FINALIZER, Producer, StreamPolicy, Subscription};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::cache::producers::ProducerFacts;
use crate::context::Context;
use crate::event_schema;
use crate::nats::jetstream::JsError;
use crate::reconcile::failures::jittered;
use crate::reconcile::leases::Verdict;
use crate::reconcile::programmed;
use crate::status::write::StatusError;
pub(crate) use cleanup::{cleanup, leftover};

/// A Producer could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProducerError {
    #[error("the API server gave a strange uid")]
    Uid(#[from] InvalidUid),
    #[error("can't look at the stream")]
    Fetch(#[source] JsError),
    #[error("can't ask for the EventSchemas")]
    EventSchemas(#[source] kube::Error),
    #[error("can't put stream, consumer and record in place")]
    Apply(#[from] apply::ApplyError),
    #[error("can't ask for the dispatchers' leases")]
    Leases(#[source] JsError),
    #[error("can't clean up")]
    Cleanup(#[source] JsError),
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// How often a healthy Producer is looked at: for the numbers of its stream, and to repair what someone removed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Brings NATS and the status to what the Producer says.
pub(crate) async fn reconcile(producer: Arc<Producer>, ctx: &Context) -> Result<Action, ProducerError> {
    let producer = ctx.latest_producers.of(&producer);
    let uid = ProducerUid::parse(&producer.uid().unwrap_or_default())?;
    let this = ObjectRef::from_obj(&*producer);
    // They are counted, and told of changes.
    ctx.subscriptions_listed.wait().await;
    ctx.schemas_listed.wait().await;
    if ctx.facts.note_terms(&uid, &producer) {
        // Before anything that may fail: whoever is shut out is shut out at once.
        trigger_subscriptions(ctx, &producer);
    }

    let (outcome, error) = match attempt(&producer, &uid, ctx).await {
        Ok(outcome) => (outcome, None),
        Err(error) => (status::Outcome::failed(&error), Some(error)),
    };
    let changed = remember(ctx, &uid, &outcome);
    status::write(ctx, &producer, &uid, &outcome).await?;
    if changed {
        trigger_subscriptions(ctx, &producer);
    }
    if matches!(
        outcome,
        status::Outcome::Live { verdict: Verdict::Loaded | Verdict::Unserved { .. }, .. } | status::Outcome::Refused(_)
    ) {
        ctx.triggers.producers.settled(&this);
    }
    match error {
        Some(error) => Err(error),
        None if matches!(outcome, status::Outcome::Live { verdict: Verdict::Loaded, .. }) => {
            Ok(Action::requeue(jittered(LOOK_AGAIN)))
        }
        None if matches!(outcome, status::Outcome::Refused(_)) => Ok(Action::requeue(jittered(LOOK_AGAIN))),
        None => Ok(Action::requeue(Duration::from_secs(5))),
    }
}

async fn attempt(producer: &Producer, uid: &ProducerUid, ctx: &Context) -> Result<status::Outcome, ProducerError> {
    let current = fetch::fetch(producer, &ctx.js).await.map_err(ProducerError::Fetch)?;
    let valid = match validate::validate(producer, uid, current.max_payload, &ctx.settings.tenancy) {
        Ok(valid) => valid,
        Err(refusal) => {
            withdraw(producer, uid, ctx).await?;
            return Ok(status::Outcome::Refused(refusal));
        }
    };
    let waits_for = enforce::waits_for(&valid, ctx).await?;
    if waits_for > 0 {
        return Ok(status::Outcome::Waiting { schemas: waits_for });
    }
    let plan = build::build(valid);
    let (live, stream, fresh) = match apply::apply(&plan, current, &ctx.js).await? {
        apply::Applied::Refused(refusal) => {
            withdraw(producer, uid, ctx).await?;
            return Ok(status::Outcome::Refused(refusal));
        }
        apply::Applied::Live { live, stream, fresh } => (live, stream, fresh),
    };
    ctx.triggers.producers.when_loaded(ObjectRef::from_obj(producer), live.revision, uid);
    let verdict = programmed::verdict(ctx, live.revision, uid).await.map_err(ProducerError::Leases)?;
    Ok(status::Outcome::Live { live, stream, verdict, fresh })
}

/// Takes the record away from a refused Producer that reads the stream of someone else: dispatchers stop. Whatever the
/// refusal is, behind it may be that it is no longer allowed what the record says. One whose own stream was fine goes on
/// as it was while its spec is refused.
async fn withdraw(producer: &Producer, uid: &ProducerUid, ctx: &Context) -> Result<(), ProducerError> {
    if validate::policy(producer) == StreamPolicy::Managed {
        return Ok(());
    }
    let key = ConfigKey::Producer(uid.clone()).to_string();
    if ctx.js.get(CONFIG_BUCKET, &key).await.map_err(ProducerError::Fetch)?.is_some() {
        ctx.js.remove(CONFIG_BUCKET, &key).await.map_err(ProducerError::Fetch)?;
    }
    ctx.facts.forget_live(uid);
    Ok(())
}

/// Returns whether Subscriptions have to look at the Producer again.
fn remember(ctx: &Context, uid: &ProducerUid, outcome: &status::Outcome) -> bool {
    match outcome {
        status::Outcome::Live { live, verdict, .. } => {
            let unserved = matches!(verdict, Verdict::Unserved { .. });
            ctx.facts.set(uid, ProducerFacts { accepted: Ok(()), live: Some(live.clone()), unserved })
        }
        status::Outcome::Refused(refusal) => {
            let before = ctx.facts.get(uid);
            let unserved = before.as_ref().is_some_and(|before| before.unserved);
            let live = before.and_then(|before| before.live);
            ctx.facts.set(uid, ProducerFacts { accepted: Err(refusal.clone()), live, unserved })
        }
        status::Outcome::Waiting { .. } | status::Outcome::Unavailable | status::Outcome::Failed(_) => false,
    }
}

/// Reconciles the Subscriptions and EventSchemas that refer to this Producer.
fn trigger_subscriptions(ctx: &Context, producer: &Producer) {
    for schema in event_schema::of_producer(ctx, &ObjectRef::from_obj(producer)) {
        ctx.triggers.schemas.reconcile(ObjectRef::from_obj(&*schema));
    }
    // One without the finalizer is reconciled as soon as it has it: until that is seen, it would be added once more.
    let has_finalizer = |s: &Subscription| s.finalizers().iter().any(|name| name == FINALIZER);
    for subscription in ctx.subscriptions.state_filter(|s| refers_to(s, producer) && has_finalizer(s)) {
        ctx.triggers.subscriptions.reconcile(ObjectRef::from_obj(&*subscription));
    }
}

fn refers_to(subscription: &Subscription, producer: &Producer) -> bool {
    subscription.spec.producer_ref.name == producer.name_any()
        && Some(namespace_of(subscription)) == producer.namespace()
}

/// The namespace of the Producer that a Subscription refers to.
pub(crate) fn namespace_of(subscription: &Subscription) -> String {
    let given = subscription.spec.producer_ref.namespace.clone();
    given.or_else(|| subscription.namespace()).unwrap_or_default()
}

/// The Producer that a Subscription refers to.
pub(crate) fn producer_ref(subscription: &Subscription) -> ObjectRef<Producer> {
    ObjectRef::new(&subscription.spec.producer_ref.name).within(&namespace_of(subscription))
}
