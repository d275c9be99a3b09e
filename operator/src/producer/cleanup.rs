//! Removes what a Producer left in NATS. The record goes first, so that dispatchers stop reading.

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::{
    self, CONFIG_BUCKET, ConfigKey, STATE_BUCKET, STREAM_DELETION_POLICY, STREAM_OWNER,
};
use hookwright_core::record::{ProducerRecord, StreamRef};
use hookwright_crds::{DeletionPolicy, Producer, StreamPolicy};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tracing::{info, warn};

use super::{build, referrers, retained, validate};
use crate::cache::references::{full_name, stream_name};
use crate::context::Context;
use crate::nats::jetstream::{JetStream, JsResult, created};
use crate::quotas;
use crate::reconcile::deletion;
use crate::reconcile::error::ReconcileError;
use crate::tenancy::is_stream_name;

pub(crate) async fn cleanup(producer: &Producer, ctx: &Context) -> Result<(), ReconcileError> {
    let uid = ProducerUid::parse(&ctx.identities.of(producer))?;
    let result = remove(producer, &uid, &ctx.js).await;
    deletion::or_let_go(result, producer, ctx.deletion()).await?;
    ctx.producer_states.forget(&uid);
    ctx.producers.own_writes.forget(&producer.uid().unwrap_or_default());
    ctx.fences.forget(&producer.uid().unwrap_or_default());
    ctx.stream_numbers.forget(&uid);
    ctx.stream_incidents.forget(&uid);
    ctx.stream_heads.forget(&uid);
    if !is_retained(producer) {
        ctx.stream_sizes.forget_of(uid.as_str());
    }
    ctx.triggers.producers.settled(&ObjectRef::from_obj(producer));
    referrers::trigger(ctx, producer);
    // One that had no room may have it now.
    let is_beyond = |other: &Producer| {
        let conditions = other.status.as_ref().and_then(|status| status.conditions.as_deref());
        other.namespace() == producer.namespace() && quotas::is_beyond(conditions)
    };
    for waiting in ctx.producers.store.state_filter(is_beyond) {
        ctx.triggers.producers.reconcile(ObjectRef::from_obj(&*waiting));
    }
    Ok(())
}

async fn remove(producer: &Producer, uid: &ProducerUid, js: &JetStream) -> JsResult<()> {
    js.remove_matching(CONFIG_BUCKET, &ConfigKey::Producer(uid.clone()).to_string()).await?;
    // A new Producer of this name has another uid; its Subscriptions get new records under it. So they aren't marked as
    // deleted. Those of a stream that stays are there when the stream is taken up.
    if !is_retained(producer) {
        js.remove_matching(CONFIG_BUCKET, &format!("subscription.{uid}.*")).await?;
    }
    js.remove_matching(CONFIG_BUCKET, &format!("schema.{uid}.*")).await?;
    remove_stream(producer, uid, js).await?;
    js.remove_matching(STATE_BUCKET, &names::violations_key(uid)).await?;
    js.remove_matching(STATE_BUCKET, &names::grants_key(uid)).await?;
    js.remove_matching(STATE_BUCKET, &names::checkpoint_key(uid)).await
}

fn is_retained(producer: &Producer) -> bool {
    validate::policy(producer) == StreamPolicy::Managed && deletion_policy(producer) == DeletionPolicy::Retain
}

fn deletion_policy(producer: &Producer) -> DeletionPolicy {
    producer.spec.stream.as_ref().and_then(|stream| stream.deletion_policy).unwrap_or_default()
}

async fn remove_stream(producer: &Producer, uid: &ProducerUid, js: &JetStream) -> JsResult<()> {
    let name = stream_name(producer);
    if !is_stream_name(&name) {
        return Ok(());
    }
    let Some(stream) = js.stream(&name).await? else { return Ok(()) };
    let consumer = names::shared_consumer(uid, created(&stream));
    if validate::policy(producer) == StreamPolicy::Existing {
        // The consumer's name has the Producer's uid in it, so the consumer is Hookwright's whatever the stream is.
        return js.delete_consumer(&name, &consumer).await;
    }
    if stream.config.metadata.get(STREAM_OWNER).is_none_or(|owner| owner != uid.as_str()) {
        return Ok(());
    }
    match deletion_policy(producer) {
        DeletionPolicy::Delete => {
            info!(stream = name, "deleting the stream");
            js.delete_stream(&name).await
        }
        DeletionPolicy::Retain => retained::leave(&stream, uid, js).await,
    }
}

/// Removes the stream or the consumer of a Producer that was deleted while NATS was away. Its record names them, and
/// the stream's metadata says whether the stream is deleted.
/// A stream with events is deleted only if this operator has seen its Producer go.
pub(crate) async fn leftover(record: &ProducerRecord, ctx: &Context) -> JsResult<()> {
    let js = &ctx.js;
    let StreamRef { name, created: when } = &record.stream;
    let Some(stream) = js.stream(name).await?.filter(|stream| created(stream) == *when) else { return Ok(()) };
    let says = |key: &str, value: &str| stream.config.metadata.get(key).is_some_and(|found| found == value);
    let delete = build::deletion_policy(DeletionPolicy::Delete);
    if !says(STREAM_OWNER, record.uid.as_str()) {
        return js.delete_consumer(name, &record.consumer).await;
    }
    if says(STREAM_DELETION_POLICY, delete) {
        if stream.state.messages == 0 || ctx.let_go.has(record.uid.as_str()) {
            info!(stream = name, "deleting the stream");
            return js.delete_stream(name).await;
        }
        let producer = full_name(Some(&record.namespace), Some(&record.name));
        warn!(stream = name, producer, "the Producer is gone; its stream has events, so it is not deleted");
    }
    retained::leave(&stream, &record.uid, js).await
}
