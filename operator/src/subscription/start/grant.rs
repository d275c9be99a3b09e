//! Since when the namespace of a Subscription may have the events of another namespace's Producer.

use async_nats::jetstream::stream::Info;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::{STATE_BUCKET, grants_key};
use hookwright_core::record::{self, Grants};

use crate::context::Context;
use crate::nats::jetstream::created;
use crate::reconcile::error::ReconcileError;

/// Returns the sequence at which a namespace was let in; none if that is not noted yet.
pub(crate) async fn since(
    producer: &ProducerUid,
    stream: &Info,
    namespace: &str,
    ctx: &Context,
) -> Result<Option<u64>, ReconcileError> {
    let Some(namespace) = ctx.namespaces.uid(namespace).await else { return Ok(None) };
    let Some(entry) = ctx.js.get(STATE_BUCKET, &grants_key(producer)).await? else { return Ok(None) };
    let grants: Grants = record::decode(&entry.value).map_err(ReconcileError::Grants)?;
    Ok(grants.of(&namespace).filter(|_| grants.stream_created == created(stream)))
}
