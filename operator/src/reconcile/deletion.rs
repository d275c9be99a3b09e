//! Deletions. What an object has left in NATS is removed before the object goes, but the object waits for NATS for a
//! limited time only.

use std::time::Duration;

use hookwright_crds::Reason;
use jiff::Timestamp;
use kube::Resource;
use kube::runtime::events::Recorder;

use crate::cache::absent::LetGo;
use crate::cache::identities::Identities;
use crate::named::{Named, about};
use crate::nats::jetstream::{JetStream, JsError, JsResult};
use crate::reconcile::identity;
use crate::status::events::{self, Action};

/// What a deletion needs.
pub(crate) struct Deletion<'a> {
    /// How long it waits for NATS.
    pub(crate) timeout: Duration,
    pub(crate) recorder: &'a Recorder,
    pub(crate) let_go: &'a LetGo,
    pub(crate) identities: &'a Identities,
    pub(crate) js: &'a JetStream,
}

/// Returns how long an object that is being deleted may still wait, or none if it isn't being deleted.
pub(crate) fn remaining(object: &impl Resource, timeout: Duration) -> Option<Duration> {
    let since = object.meta().deletion_timestamp.as_ref()?.0;
    let waited = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
    Some(timeout.saturating_sub(waited))
}

/// Returns the result of the cleanup, or success if NATS has been away for longer than the timeout. What then stays in
/// the buckets is removed when NATS is back, or an hour later by another operator.
pub(crate) async fn or_let_go<K: Resource<DynamicType = ()>>(
    result: JsResult<()>,
    object: &K,
    by: Deletion<'_>,
) -> JsResult<()> {
    let unavailable = |error: &JsError| error.is_unavailable();
    let remaining = remaining(object, by.timeout).unwrap_or_default();
    if !result.as_ref().is_err_and(unavailable) || !remaining.is_zero() {
        result?;
        return identity::release(object, by.identities, by.js).await;
    }
    let named = Named::of::<K>(object.meta().namespace.as_deref(), object.meta().name.as_deref());
    about!(warn, named, "deleted while NATS was away: what it left in NATS is still there");
    let note = "NATS was away for too long, so the object was deleted first. What it left there, such as its records and \
                consumers, is still there. The operator removes it when NATS is back.";
    by.let_go.note(by.identities.of(object));
    events::warning(by.recorder, object, Reason::NatsUnavailable, Action::LetGo, note).await;
    Ok(())
}
