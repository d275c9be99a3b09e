//! Reconciles a Producer: a stream, a consumer that all dispatchers share, and a record that tells them of both.

mod apply;
mod build;
mod cleanup;
mod enforce;
mod fetch;
mod incidents;
mod referrers;
mod status;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::nats::ids::{InvalidUid, ProducerUid};
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_crds::{Producer, StreamPolicy};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::cache::leases::Rollout;
use crate::cache::producers::ProducerState;
use crate::context::Context;
use crate::nats::jetstream::JsError;
use crate::reconcile::failures::jittered;
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
    let producer = ctx.producers.own_writes.newest(&producer);
    let uid = ProducerUid::parse(&producer.uid().unwrap_or_default())?;
    let this = ObjectRef::from_obj(&*producer);
    // They are counted, and told of changes.
    ctx.subscriptions.listed.wait().await;
    ctx.schemas.listed.wait().await;
    if ctx.producer_states.note_terms(&uid, &producer) {
        // Before anything that may fail: whoever is shut out is shut out at once.
        referrers::trigger(ctx, &producer);
    }

    let (outcome, error) = match attempt(&producer, &uid, ctx).await {
        Ok(outcome) => (outcome, None),
        Err(error) => (status::Outcome::failed(&error), Some(error)),
    };
    let changed = remember(ctx, &uid, &outcome);
    status::write(ctx, &producer, &uid, &outcome).await?;
    if changed {
        referrers::trigger(ctx, &producer);
    }
    if matches!(
        outcome,
        status::Outcome::Live { rollout: Rollout::Loaded | Rollout::Unserved { .. }, .. } | status::Outcome::Refused(_)
    ) {
        ctx.triggers.producers.settled(&this);
    }
    match error {
        Some(error) => Err(error),
        None if matches!(outcome, status::Outcome::Live { rollout: Rollout::Loaded, .. }) => {
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
    let rollout = programmed::rollout(&ctx.leases, &ctx.js, live.revision, uid).await.map_err(ProducerError::Leases)?;
    Ok(status::Outcome::Live { live, stream, rollout, fresh })
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
    ctx.producer_states.forget_live(uid);
    Ok(())
}

/// Returns whether Subscriptions have to look at the Producer again.
fn remember(ctx: &Context, uid: &ProducerUid, outcome: &status::Outcome) -> bool {
    match outcome {
        status::Outcome::Live { live, rollout, .. } => {
            let unserved = matches!(rollout, Rollout::Unserved { .. });
            ctx.producer_states.set(uid, ProducerState { accepted: Ok(()), live: Some(live.clone()), unserved })
        }
        status::Outcome::Refused(refusal) => {
            let before = ctx.producer_states.get(uid);
            let unserved = before.as_ref().is_some_and(|before| before.unserved);
            let live = before.and_then(|before| before.live);
            ctx.producer_states.set(uid, ProducerState { accepted: Err(refusal.clone()), live, unserved })
        }
        status::Outcome::Waiting { .. } | status::Outcome::Unavailable | status::Outcome::Failed(_) => false,
    }
}
