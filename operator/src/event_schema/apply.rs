//! Step 4: writes the record into the config bucket, if it has changed.

use hookwright_core::nats::names::ConfigKey;
use hookwright_core::record::{self, EventSchemaRecord};
use hookwright_crds::EventSchema;

use crate::context::Context;
use crate::nats::kv::Written;
use crate::reconcile::error::ReconcileError;

pub(super) async fn apply(
    wanted: &EventSchemaRecord,
    schema: &EventSchema,
    ctx: &Context,
) -> Result<Written, ReconcileError> {
    let key = ConfigKey::Schema(wanted.producer.clone(), wanted.uid.clone()).to_string();
    ctx.records(schema)
        .put(&key, |found| {
            let old = found.and_then(|value| record::decode::<EventSchemaRecord>(value).ok());
            Ok(if old.as_ref() == Some(wanted) { None } else { Some(wanted.clone()) })
        })
        .await
}
