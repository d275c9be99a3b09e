//! Removes what an EventSchema left in NATS.

use hookwright_core::nats::ids::EventSchemaUid;
use hookwright_core::nats::names::CONFIG_BUCKET;
use hookwright_crds::{ConditionType, EventSchema, Reason};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::cache::references::RefersToProducer;
use crate::context::Context;
use crate::reconcile::deletion;
use crate::reconcile::error::ReconcileError;
use crate::status::conditions::find;

pub(crate) async fn cleanup(schema: &EventSchema, ctx: &Context) -> Result<(), ReconcileError> {
    let uid = EventSchemaUid::parse(&ctx.identities.of(schema))?;
    ctx.triggers.schemas.settled(&ObjectRef::from_obj(schema));
    // The record may be under any Producer's uid, as a Producer of the same name may have been deleted and created
    // again.
    let result = ctx.js.remove_matching(CONFIG_BUCKET, &format!("schema.*.{uid}")).await;
    deletion::or_let_go(result, schema, ctx.deletion()).await?;
    ctx.schemas.own_writes.forget(&schema.uid().unwrap_or_default());
    ctx.fences.forget(&schema.uid().unwrap_or_default());
    ctx.settled_schemas.forget(&uid);
    ctx.schema_checks.forget(&uid);
    let producer = schema.producer_ref();
    // Another EventSchema may be accepted now, if this one was in its way.
    let stood_back = |other: &EventSchema| {
        other.producer_ref() == producer && other.spec.type_ == schema.spec.type_ || was_crowded_out(other)
    };
    let neighbours =
        ctx.schemas.store.state_filter(|other| other.namespace() == schema.namespace() && stood_back(other));
    for other in neighbours {
        ctx.triggers.schemas.reconcile(ObjectRef::from_obj(&*other));
    }
    ctx.triggers.producer_soon(producer);
    Ok(())
}

fn was_crowded_out(schema: &EventSchema) -> bool {
    let conditions = schema.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let accepted = find(conditions, ConditionType::Accepted);
    let reasons = [Reason::TooManyEventSchemas, Reason::QuotaExceeded].map(Reason::as_str);
    accepted.is_some_and(|accepted| reasons.contains(&accepted.reason.as_str()))
}
