//! Reconciles an EventSchema into a record by which dispatchers validate events. `controllers` calls this room.

mod apply;
mod build;
pub(crate) mod cleanup;
mod fetch;
mod status;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::nats::ids::{EventSchemaUid, ProducerUid};
use hookwright_crds::{ConditionType, EventSchema};
use kube::Resource;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::cache::failures::jittered;
use crate::cache::leases::{Goal, Rollout};
use crate::cache::references::RefersToProducer;
use crate::context::Context;
use crate::reconcile::error::ReconcileError;
use crate::reconcile::identity;
use crate::reconcile::panics;
use crate::reconcile::programmed;
use crate::refusal::Refusal;
use crate::status::conditions::holds_for;
use crate::status::write::ReconciledObject;
use status::SchemaOutcome;

/// How often an EventSchema that is in place is looked at, to repair what was removed.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// How soon an EventSchema without its Producer is looked at again, in case the Producer's signal is missed.
const LOOK_FOR_MISSING: Duration = Duration::from_secs(30);
/// How soon an EventSchema that waits for dispatchers is looked at again, in case every signal is missed.
const LOOK_FOR_DISPATCHERS: Duration = Duration::from_secs(5);

/// Brings the record and the status to what the EventSchema says.
pub(crate) async fn reconcile(schema: Arc<EventSchema>, ctx: &Context) -> Result<Action, ReconcileError> {
    let schema = ctx.schemas.own_writes.newest(&schema);
    let (uid, known) = identity::of(&*schema, &ctx.identities, &ctx.js).await;
    let uid = EventSchemaUid::parse(&uid)?;
    if schema.status.as_ref().and_then(|status| status.observed_generation).is_none_or(|seen| seen < 0) {
        // The Producer counts its EventSchemas.
        ctx.triggers.producer_soon(schema.producer_ref());
    }
    let attempted = match known {
        Ok(()) => attempt(&schema, &uid, ctx).await,
        Err(error) => Err(error),
    };
    let (found, error) = match attempted {
        Ok(found) => (found, None),
        Err(error) if error.is_outdated() => return Err(error),
        Err(error) => (SchemaOutcome::failed(&error), Some(error)),
    };
    status::write(ctx, &schema, &found).await?;
    match error {
        Some(error) => Err(error),
        None => Ok(Action::requeue(match found {
            SchemaOutcome::Applied { rollout: Rollout::Loaded, .. } | SchemaOutcome::Refused(_) => jittered(LOOK_AGAIN),
            // The Producer triggers a reconcile when a dispatcher serves it again.
            SchemaOutcome::Unresolved(_) | SchemaOutcome::Applied { rollout: Rollout::Unserved { .. }, .. } => {
                jittered(LOOK_FOR_MISSING)
            }
            _ => LOOK_FOR_DISPATCHERS,
        })),
    }
}

/// Shows in the status why a reconcile ended without a result.
pub(crate) async fn tell(schema: &Arc<EventSchema>, failure: Refusal, ctx: &Context) -> Result<(), ReconcileError> {
    let schema = ctx.schemas.own_writes.newest(schema);
    Ok(status::write(ctx, &schema, &SchemaOutcome::Failed(failure)).await?)
}

async fn attempt(
    schema: &Arc<EventSchema>,
    uid: &EventSchemaUid,
    ctx: &Context,
) -> Result<SchemaOutcome, ReconcileError> {
    let fetched = Arc::new(fetch::fetch(schema, uid, ctx).await?);
    panics::on_request(&**schema);
    let (object, for_check, published, checks) =
        (schema.clone(), uid.clone(), fetched.clone(), ctx.schema_checks.clone());
    // Compiling a large schema would block the runtime's threads.
    let check = move || validate::validate(&object, &for_check, &published, &checks);
    let checked = tokio::task::spawn_blocking(check).await;
    if !matches!(checked, Ok(Ok(_)))
        && let Some(producer) = &fetched.producer
    {
        // A refused EventSchema must not keep its Producer waiting.
        settle(schema, uid, producer, ctx);
    }
    let valid = match panics::joined(checked)? {
        Ok(valid) => valid,
        Err(refusal) => return Ok(SchemaOutcome::Refused(refusal)),
    };
    let record = match build::build(&valid, &fetched) {
        Ok(record) => record,
        Err(refusal) => return Ok(SchemaOutcome::Unresolved(refusal)),
    };
    let versions = status::published(&record, &fetched);
    let written = apply::apply(&record, schema, ctx).await?;
    if let Some(waits) = written.waits {
        return Ok(SchemaOutcome::Applied { rollout: waits, fresh: written.fresh, versions });
    }
    settle(schema, uid, &record.producer, ctx);
    let this = ObjectRef::from_obj(&**schema);
    let generation = schema.meta().generation.unwrap_or_default();
    let before = schema.status.as_ref().map(EventSchema::conditions).unwrap_or_default();
    let is_latched = holds_for(before, ConditionType::Programmed, generation);
    let is_served = !ctx.leases.unserved().contains(&record.producer);
    let rollout = if !written.fresh && is_latched && is_served {
        Rollout::Loaded
    } else {
        // The trigger is set before the leases are looked at, so that a lease that comes in between is not missed.
        let goal = Goal::Config(written.revision);
        ctx.triggers.schemas.when_loaded(this.clone(), goal, &record.producer);
        programmed::rollout(&ctx.leases, &ctx.js, goal, &record.producer).await?
    };
    if matches!(rollout, Rollout::Loaded | Rollout::Unserved { .. }) {
        ctx.triggers.schemas.settled(&this);
    }
    Ok(SchemaOutcome::Applied { rollout, fresh: written.fresh, versions })
}

/// Notes that this generation is settled, as the Producer may wait for that.
fn settle(schema: &EventSchema, uid: &EventSchemaUid, producer: &ProducerUid, ctx: &Context) {
    if ctx.settled_schemas.add(uid, producer, schema.meta().generation.unwrap_or_default()) {
        ctx.triggers.producer_soon(schema.producer_ref());
    }
}
