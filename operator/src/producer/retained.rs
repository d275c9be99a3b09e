//! Streams that stay when their Producer is deleted, with its place in them, and the Producer that takes them up again.
//!
//! A Producer that is created again has another uid. It takes up the stream that a Producer of the same namespace and
//! name has left: as the name is its own now, the other one is gone. A namespace that was created again may be somebody
//! else's, so its uid counts, too, unless a setting says otherwise.

use async_nats::jetstream::stream::{Config, Info};
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::{
    self, CONFIG_BUCKET, ConfigKey, STATE_BUCKET, STREAM_DONE, STREAM_NAMESPACE_UID, STREAM_OWNER, STREAM_PRODUCER,
};
use hookwright_core::record::{self, Checkpoint, Identity, SubscriptionRecord};
use hookwright_core::seal::Sealed;
use hookwright_crds::{Producer, Reason};
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tracing::info;

use super::build::Plan;
use crate::context::Context;
use crate::nats::jetstream::{JetStream, JsResult, created};
use crate::nats::{drift, last_event};
use crate::reconcile::error::ReconcileError;
use crate::refusal::Refusal;
use crate::settings::RetainedStreams;

/// Removes the consumer of a Producer that is gone. The stream remembers how far the Producer has come.
pub(super) async fn leave(stream: &Info, uid: &ProducerUid, js: &JetStream) -> JsResult<()> {
    let (name, created) = (&stream.config.name, created(stream));
    let done = place(stream, uid, js).await?;
    let mut config = stream.config.clone();
    if config.metadata.insert(STREAM_DONE.to_owned(), done.to_string()) != Some(done.to_string()) {
        js.update_stream(&config).await?;
    }
    js.delete_consumer(name, &names::shared_consumer(uid, created)).await
}

/// Returns the sequence up to which a Producer's events are done: the highest that its consumer, its checkpoint or the
/// stream itself knows.
async fn place(stream: &Info, uid: &ProducerUid, js: &JetStream) -> JsResult<u64> {
    let created = created(stream);
    let noted = stream.config.metadata.get(STREAM_DONE).and_then(|done| done.parse().ok()).unwrap_or(0);
    let consumer = js.consumer(&stream.config.name, &names::shared_consumer(uid, created)).await?;
    let consumer = consumer.filter(|consumer| drift::has_own_floor(&consumer.config));
    let floor = consumer.map_or(0, |consumer| consumer.ack_floor.stream_sequence);
    let entry = js.get(STATE_BUCKET, &names::checkpoint_key(uid)).await?;
    let checkpoint = entry.and_then(|entry| record::decode::<Checkpoint>(&entry.value).ok());
    let checkpoint = checkpoint.filter(|checkpoint| checkpoint.stream_created == created);
    let checked = match checkpoint {
        Some(checkpoint) => last_event::recheck(stream, &checkpoint, js).await?,
        None => 0,
    };
    Ok(floor.max(noted).max(checked))
}

/// Returns why the Producer may not take up the stream, which another Producer owns.
pub(super) fn may_take_up(plan: &Plan, stream: &Config, setting: RetainedStreams) -> Result<(), Refusal> {
    let (name, live) = (&plan.stream.name, &stream.metadata);
    let same = |key: &str| live.get(key).is_some_and(|value| Some(value) == plan.stream.metadata.get(key));
    let refusal = |message: String| Err(Refusal::new(Reason::StreamOwnedByAnother, message));
    if !live.contains_key(STREAM_OWNER) || !same(STREAM_PRODUCER) {
        return refusal(format!(
            "A stream {name:?} exists and isn't this Producer's; it is left alone. Delete it (nats stream rm {name}), or \
             create the Producer anew with another stream.name, which can't be edited."
        ));
    }
    if !same(STREAM_NAMESPACE_UID) && setting == RetainedStreams::SameNamespace {
        return refusal(format!(
            "A stream {name:?} exists, of a Producer of this name in an earlier namespace of this name; it is left alone. \
             Delete it (nats stream rm {name}), or set retainedStreams to SameName in the operator's settings."
        ));
    }
    Ok(())
}

/// Takes up the stream: what remains of the former Producer goes, and its place becomes this one's. The stream's metadata
/// names the new owner last, so that an operator that dies before begins again.
pub(super) async fn take_up(
    plan: &Plan,
    stream: &Info,
    producer: &Producer,
    ctx: &Context,
) -> Result<(), ReconcileError> {
    let js = &ctx.js;
    let (uid, created) = (&plan.producer.uid, created(stream));
    let owner = stream.config.metadata.get(STREAM_OWNER).map_or("", String::as_str);
    let former = ProducerUid::parse(owner)?;
    info!(stream = plan.stream.name, producer_uid = %uid, %former, "taking up the stream of a former Producer");
    // Dispatchers stop reading for the former Producer.
    js.remove_matching(CONFIG_BUCKET, &ConfigKey::Producer(former.clone()).to_string()).await?;
    js.remove_matching(CONFIG_BUCKET, &format!("schema.{former}.*")).await?;
    for key in js.keys(CONFIG_BUCKET, &format!("subscription.{former}.*")).await? {
        if let Some(entry) = js.get(CONFIG_BUCKET, &key).await? {
            carry_over(&entry.value, uid, producer, ctx).await?;
            if !js.remove_at(CONFIG_BUCKET, &key, entry.revision).await? {
                return Err(ReconcileError::Outdated);
            }
        }
    }
    note(stream, uid, place(stream, &former, js).await?, js).await?;
    js.delete_consumer(&plan.stream.name, &names::shared_consumer(&former, created)).await?;
    Ok(js.remove_matching(STATE_BUCKET, &names::checkpoint_key(&former)).await?)
}

/// Goes on where the Producer was when it was deleted, if it is there again with its uid: the API server's data were
/// restored from an earlier moment.
pub(super) async fn come_back(plan: &Plan, stream: &Info, js: &JetStream) -> Result<(), ReconcileError> {
    if !stream.config.metadata.contains_key(STREAM_DONE) {
        return Ok(());
    }
    let uid = &plan.producer.uid;
    note(stream, uid, place(stream, uid, js).await?, js).await
}

/// Raises the checkpoint of a Producer to the sequence up to which all events are done.
async fn note(stream: &Info, uid: &ProducerUid, done: u64, js: &JetStream) -> Result<(), ReconcileError> {
    let (key, created) = (names::checkpoint_key(uid), created(stream));
    let found = js.newest(STATE_BUCKET, &key).await?;
    let noted = found.value.and_then(|value| record::decode::<Checkpoint>(&value).ok());
    let noted = noted.filter(|noted| noted.stream_created == created).map_or(0, |noted| noted.ack_floor);
    if done > noted {
        // It is read after that place, so that the last event lies beyond it.
        let last_event = js.stream(&stream.config.name).await?.as_ref().and_then(last_event::of);
        let checkpoint = record::encode(&Checkpoint::new(created, done, last_event))?;
        js.put_at(STATE_BUCKET, &key, checkpoint, found.revision).await?.ok_or(ReconcileError::Outdated)?;
    }
    Ok(())
}

/// Writes the record of a Subscription of the former Producer under this one. The Subscription has it before dispatchers
/// read the stream, so that it misses nothing of what waits there. If the record is not of the Subscription as it is now,
/// nothing is sent by it, and events wait.
async fn carry_over(
    record: &[u8],
    uid: &ProducerUid,
    producer: &Producer,
    ctx: &Context,
) -> Result<(), ReconcileError> {
    // One that can't be read is written anew by its reconcile.
    let Ok(mut record) = record::decode::<SubscriptionRecord<Sealed>>(record) else { return Ok(()) };
    let Identity { namespace, name, generation, uid: subscription } = &record.identity;
    let Some(object) = ctx.subscriptions.store.get(&ObjectRef::new(name).within(namespace)) else { return Ok(()) };
    if ctx.identities.of(&*object) != subscription.as_str() || !ctx.namespaces.permits(producer, namespace).await {
        return Ok(());
    }
    if object.meta().generation != Some(*generation) {
        record.destination = None;
    }
    let key = ConfigKey::Subscription(uid.clone(), subscription.clone()).to_string();
    record.producer = uid.clone();
    let found = ctx.js.newest(CONFIG_BUCKET, &key).await?;
    if found.value.is_none() {
        let record = record::encode(&record)?;
        ctx.js.put_at(CONFIG_BUCKET, &key, record, found.revision).await?.ok_or(ReconcileError::Outdated)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::build::build;
    use super::super::validate::tests::validated;
    use super::*;

    #[test]
    fn only_the_same_name_in_the_same_namespace_takes_up_a_stream() {
        let plan = build(validated(&json!({ "subjects": ["shop.a"] })).unwrap(), Some("n-1".to_owned()));
        let take_up = |changes: &[(&str, Option<&str>)], setting| {
            let mut live = plan.stream.clone();
            live.metadata.insert(STREAM_OWNER.to_owned(), "p-0".to_owned());
            for (key, value) in changes {
                match value {
                    Some(value) => live.metadata.insert((*key).to_owned(), (*value).to_owned()),
                    None => live.metadata.remove(*key),
                };
            }
            may_take_up(&plan, &live, setting).is_ok()
        };
        let (same, by_name) = (RetainedStreams::SameNamespace, RetainedStreams::SameName);
        assert!(take_up(&[], same));
        assert!(
            !take_up(&[(STREAM_NAMESPACE_UID, Some("n-0"))], same) && !take_up(&[(STREAM_NAMESPACE_UID, None)], same)
        );
        assert!(take_up(&[(STREAM_NAMESPACE_UID, Some("n-0"))], by_name));
        for setting in [same, by_name] {
            assert!(!take_up(&[(STREAM_PRODUCER, Some("shop/other"))], setting));
            assert!(!take_up(&[(STREAM_PRODUCER, None)], setting), "a stream of an older release");
            assert!(!take_up(&[(STREAM_OWNER, None)], setting), "nobody's");
        }
    }
}
