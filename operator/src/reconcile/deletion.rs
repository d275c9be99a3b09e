//! Deletions. What an object has left in NATS is removed before the object goes, but the object waits for NATS for a
//! limited time only.

use std::time::Duration;

use hookwright_crds::Reason;
use jiff::Timestamp;
use kube::Resource;
use kube::runtime::events::Recorder;
use tracing::warn;

use crate::cache::references::full_name;
use crate::nats::jetstream::{JsError, JsResult};
use crate::status::events;

/// Returns how long an object that is being deleted may still wait, or none if it isn't being deleted.
pub(crate) fn remaining(object: &impl Resource, timeout: Duration) -> Option<Duration> {
    let since = object.meta().deletion_timestamp.as_ref()?.0;
    let waited = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
    Some(timeout.saturating_sub(waited))
}

/// Returns the result of the cleanup, or success if NATS has been away for longer than the timeout. What then stays in
/// the buckets is removed when NATS is back, as no object has its uid any more.
pub(crate) async fn or_let_go<K: Resource<DynamicType = ()>>(
    result: JsResult<()>,
    object: &K,
    timeout: Duration,
    recorder: &Recorder,
) -> JsResult<()> {
    let unavailable = |error: &JsError| error.is_unavailable();
    let remaining = remaining(object, timeout).unwrap_or_default();
    if !result.as_ref().is_err_and(unavailable) || !remaining.is_zero() {
        return result;
    }
    let name = full_name(object.meta().namespace.as_deref(), object.meta().name.as_deref());
    warn!(kind = %K::kind(&()), name, "deleted without cleaning up: NATS was away for too long");
    let note = "NATS was away for too long: deleted without cleaning up. What is left is removed when NATS is back.";
    events::warning(recorder, object, Reason::NatsUnavailable, note).await;
    Ok(())
}
