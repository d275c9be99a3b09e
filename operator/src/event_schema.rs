//! Reconciles an EventSchema: a record that dispatchers validate by.

mod apply;
mod build;
mod cleanup;
mod fetch;
mod status;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::nats::ids::{EventSchemaUid, InvalidUid, ProducerUid};
use hookwright_crds::EventSchema;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use crate::cache::leases::Rollout;
use crate::cache::references::RefersToProducer;
use crate::context::Context;
use crate::nats::jetstream::JsError;
use crate::reconcile::failures::jittered;
use crate::reconcile::programmed;
use crate::status::write::StatusError;
pub(crate) use cleanup::cleanup;

/// An EventSchema could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventSchemaError {
    #[error("the API server gave a strange uid")]
    Uid(#[from] InvalidUid),
    #[error("can't look at what is published")]
    Fetch(#[source] JsError),
    #[error("checking the schemas failed")]
    Check(#[source] tokio::task::JoinError),
    #[error("can't put the record in place")]
    Apply(#[from] apply::ApplyError),
    #[error("can't ask for the dispatchers' leases")]
    Leases(#[source] JsError),
    #[error("can't clean up")]
    Cleanup(#[source] JsError),
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// How often one that is in place is looked at, to repair what someone removed.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// How soon a Producer that is missing is looked for again, should its signal be missed.
const LOOK_FOR_MISSING: Duration = Duration::from_secs(30);
/// How soon one that waits for dispatchers is looked at again, should every signal be missed.
const LOOK_FOR_DISPATCHERS: Duration = Duration::from_secs(5);

/// Brings the record and the status to what the EventSchema says.
pub(crate) async fn reconcile(schema: Arc<EventSchema>, ctx: &Context) -> Result<Action, EventSchemaError> {
    let schema = ctx.schemas.own_writes.newest(&schema);
    let uid = EventSchemaUid::parse(&schema.uid().unwrap_or_default())?;
    if schema.status.as_ref().and_then(|status| status.observed_generation).is_none_or(|seen| seen < 0) {
        // The Producer counts its EventSchemas.
        ctx.triggers.producer_soon(schema.producer_ref());
    }
    let (found, error) = match attempt(&schema, &uid, ctx).await {
        Ok(found) => (found, None),
        Err(error) => (status::Outcome::failed(&error), Some(error)),
    };
    status::write(ctx, &schema, &found).await?;
    match error {
        Some(error) => Err(error),
        None => Ok(Action::requeue(match found {
            status::Outcome::Applied { rollout: Rollout::Loaded, .. } | status::Outcome::Refused(_) => {
                jittered(LOOK_AGAIN)
            }
            // Its Producer tells when one serves it again.
            status::Outcome::Unresolved(_) | status::Outcome::Applied { rollout: Rollout::Unserved { .. }, .. } => {
                jittered(LOOK_FOR_MISSING)
            }
            _ => LOOK_FOR_DISPATCHERS,
        })),
    }
}

async fn attempt(
    schema: &Arc<EventSchema>,
    uid: &EventSchemaUid,
    ctx: &Context,
) -> Result<status::Outcome, EventSchemaError> {
    let fetched = Arc::new(fetch::fetch(schema, uid, ctx).await.map_err(EventSchemaError::Fetch)?);
    let (object, for_check, published, checks) =
        (schema.clone(), uid.clone(), fetched.clone(), ctx.schema_checks.clone());
    // Compiling a large schema is no work for the runtime's threads.
    let check = move || validate::validate(&object, &for_check, &published, &checks);
    let checked = tokio::task::spawn_blocking(check).await;
    if !matches!(checked, Ok(Ok(_)))
        && let Some(producer) = &fetched.producer
    {
        // It must not keep its Producer waiting for ever.
        settle(schema, uid, producer, ctx);
    }
    let valid = match checked.map_err(EventSchemaError::Check)? {
        Ok(valid) => valid,
        Err(refusal) => return Ok(status::Outcome::Refused(refusal)),
    };
    let record = match build::build(&valid, &fetched) {
        Ok(record) => record,
        Err(refusal) => return Ok(status::Outcome::Unresolved(refusal)),
    };
    let versions = status::published(&record, &fetched);
    let written = apply::apply(&record, ctx).await?;
    settle(schema, uid, &record.producer, ctx);
    let this = ObjectRef::from_obj(&**schema);
    let is_served = !ctx.leases.unserved().contains(&record.producer);
    let rollout = if !written.fresh && status::is_latched(schema) && is_served {
        Rollout::Loaded
    } else {
        // First the note, then the look: a lease that comes in between is not missed.
        ctx.triggers.schemas.when_loaded(this.clone(), written.revision, &record.producer);
        programmed::rollout(&ctx.leases, &ctx.js, written.revision, &record.producer)
            .await
            .map_err(EventSchemaError::Leases)?
    };
    if matches!(rollout, Rollout::Loaded | Rollout::Unserved { .. }) {
        ctx.triggers.schemas.settled(&this);
    }
    Ok(status::Outcome::Applied { rollout, fresh: written.fresh, versions })
}

/// Nothing more is to be done for this generation; the Producer may wait for that.
fn settle(schema: &EventSchema, uid: &EventSchemaUid, producer: &ProducerUid, ctx: &Context) {
    if ctx.settled_schemas.add(uid, producer, schema.meta().generation.unwrap_or_default()) {
        ctx.triggers.producer_soon(schema.producer_ref());
    }
}
