//! Step 4: writes the record into the config bucket, if it has changed.

use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_core::record::{self, EventSchemaRecord};

use crate::context::Context;
use crate::nats::kv::Written;
use crate::reconcile::error::ReconcileError;

pub(super) async fn apply(wanted: &EventSchemaRecord, ctx: &Context) -> Result<Written, ReconcileError> {
    let key = ConfigKey::Schema(wanted.producer.clone(), wanted.uid.clone()).to_string();
    let entry = ctx.js.get(CONFIG_BUCKET, &key).await?;
    let fresh = entry.is_none();
    if let Some(entry) = entry {
        let old = record::decode::<EventSchemaRecord>(&entry.value).ok();
        if old.as_ref() == Some(wanted) {
            return Ok(Written { revision: entry.revision, fresh });
        }
    }
    let revision = ctx.js.put(CONFIG_BUCKET, &key, record::encode(wanted)?).await?;
    Ok(Written { revision, fresh })
}
