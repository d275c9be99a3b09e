//! Step 4: puts stream, consumer and record in place.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::Info;
use hookwright_core::nats::names::{self, CONFIG_BUCKET, ConfigKey, STATE_BUCKET};
use hookwright_core::record::{self, Checkpoint, ProducerRecord, RecordError};
use hookwright_crds::{Producer, Reason};
use jiff::Timestamp;
use tracing::info;

use super::build::Plan;
use super::fetch::Current;
use super::retained;
use super::stored::Origins;
use crate::cache::leases::Rollout;
use crate::cache::producers::LiveProducer;
use crate::context::Context;
use crate::nats::consumers::{self, Kept};
use crate::nats::jetstream::{ConsumerAction, JetStream, JsError, JsResult, created};
use crate::nats::kv::Written;
use crate::nats::{configs, drift, last_event};
use crate::reconcile::error::ReconcileError;
use crate::refusal::Refusal;

/// The result of applying the plan.
pub(crate) enum Applied {
    /// All is in place. `fresh`: there was no record of this stream before, whatever an old status says.
    /// `unsure`: why it can't be known whether the stream stores the Producer's subjects.
    Live { live: LiveProducer, stream: Box<Info>, fresh: bool, waits: Option<Rollout>, unsure: Option<Refusal> },
    /// There is no record that dispatchers could use yet.
    Waits(Rollout),
    /// The spec can't be applied.
    Refused(Refusal),
}

pub(crate) async fn apply(
    plan: &Plan,
    current: Current,
    producer: &Producer,
    ctx: &Context,
) -> Result<Applied, ReconcileError> {
    let (js, records) = (&ctx.js, ctx.records(producer));
    let key = ConfigKey::Producer(plan.producer.uid.clone()).to_string();
    let entry = js.get(CONFIG_BUCKET, &key).await?;
    // The stream is not changed back, either.
    records.guard(entry.as_ref().map(|entry| &*entry.value)).await?;
    let old = entry.and_then(|entry| record::decode::<ProducerRecord>(&entry.value).ok());
    let Current { stream, origins, .. } = current;
    let stream = if plan.is_existing() {
        existing(plan, stream, &origins)
    } else {
        ensure_stream(plan, stream, &origins, producer, ctx).await?.map(|stream| (stream, None))
    };
    let (stream, unsure) = match stream {
        Ok(stream) => stream,
        Err(refusal) => return Ok(Applied::Refused(refusal)),
    };
    let wanted = plan.record(created(&stream));
    // If the stream was replaced, dispatchers learn of the new one before they can read it.
    let replaced = old.as_ref().is_some_and(|old| old.stream != wanted.stream);
    if !replaced && let Err(refusal) = ensure_consumer(plan, &stream, js).await? {
        return Ok(Applied::Refused(refusal));
    }
    let written = records.put(&key, |found| {
        let same =
            found.and_then(|value| record::decode(value).ok()).is_some_and(|found: ProducerRecord| found == wanted);
        Ok(if same { None } else { Some(wanted.clone()) })
    });
    let Written { revision, waits, .. } = written.await?;
    if let Some(waits) = waits.filter(|_| replaced || old.is_none()) {
        return Ok(Applied::Waits(waits));
    }
    if replaced && let Err(refusal) = ensure_consumer(plan, &stream, js).await? {
        return Ok(Applied::Refused(refusal));
    }
    let live = LiveProducer { stream: wanted.stream, consumer: wanted.consumer, filter: plan.filter(), revision };
    Ok(Applied::Live { live, stream: Box::new(stream), fresh: replaced || old.is_none(), waits, unsure })
}

/// Returns the existing stream, if it can be read as it is, and why it can't be known what it stores, if it can't.
fn existing(plan: &Plan, live: Option<Info>, origins: &Origins) -> Result<(Info, Option<Refusal>), Refusal> {
    let Some(live) = live else {
        let message = format!("Stream {:?} doesn't exist, and policy Existing creates none.", plan.producer.stream);
        return Err(Refusal::new(Reason::StreamNotFound, message));
    };
    let unsure = plan.readable(&live.config, origins)?;
    plan.usable(&live.config, origins).map(|()| (live, unsure))
}

async fn ensure_stream(
    plan: &Plan,
    live: Option<Info>,
    origins: &Origins,
    producer: &Producer,
    ctx: &Context,
) -> Result<Result<Info, Refusal>, ReconcileError> {
    let (name, js) = (&plan.stream.name, &ctx.js);
    let Some(live) = live else {
        let answer = js.create_stream(&plan.stream).await;
        if answer.is_ok() {
            info!(stream = name, "created the stream");
        }
        return Ok(refused(plan, answer, Reason::Invalid)?);
    };
    if plan.owns(&live.config) {
        retained::come_back(plan, &live, js).await?;
    } else {
        if let Err(refusal) = retained::may_take_up(plan, &live.config, ctx.settings.retained_streams) {
            return Ok(Err(refusal));
        }
        retained::take_up(plan, &live, producer, ctx).await?;
    }
    if let Err(refusal) = plan.usable(&live.config, origins) {
        return Ok(Err(refusal));
    }
    match plan.changed(&live.config) {
        None => Ok(Ok(live)),
        Some(config) => {
            info!(stream = name, "updating the stream");
            Ok(refused(plan, js.update_stream(&config).await, Reason::StreamImmutable)?)
        }
    }
}

/// Turns the errors that the spec is to blame for into refusals.
fn refused(plan: &Plan, answer: JsResult<Info>, otherwise: Reason) -> JsResult<Result<Info, Refusal>> {
    let error = match answer {
        Ok(info) => return Ok(Ok(info)),
        Err(error) => error,
    };
    let JsError::Refused { source, .. } = &error else { return Err(error) };
    let refusal = match source.error_code() {
        ErrorCode::STREAM_SUBJECT_OVERLAP => Refusal::new(
            Reason::SubjectConflict,
            format!("A subject of {:?} overlaps with another stream's.", plan.stream.subjects),
        ),
        ErrorCode::STREAM_INVALID_CONFIG | ErrorCode::STREAM_UPDATE => {
            Refusal::new(otherwise, format!("NATS refuses the stream: {source}."))
        }
        ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED => {
            Refusal::new(Reason::Invalid, "stream.replicas above 1 needs a cluster of NATS servers.")
        }
        // Another client created the stream after the look at it.
        ErrorCode::STREAM_NAME_EXIST => Refusal::new(
            Reason::StreamOwnedByAnother,
            format!("A stream {:?} exists and isn't this Producer's; it is left alone.", plan.stream.name),
        ),
        _ => match beyond_limit("the stream", &error) {
            Some(refusal) => refusal,
            None => return Err(error),
        },
    };
    Ok(Err(refusal))
}

/// Returns the refusal if a limit of the server or the account stands in the way.
fn beyond_limit(what: &str, error: &JsError) -> Option<Refusal> {
    let JsError::Refused { source, .. } = error else { return None };
    let remedy = match source.error_code() {
        ErrorCode::STREAM_MAX_BYTES_REQUIRED => "The account asks for a bound: set stream.maxBytes",
        ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED => "Lower stream.maxBytes, or raise the limit of the account",
        ErrorCode::CLUSTER_NO_PEERS => {
            "Lower stream.replicas, or add servers, or room on those that there are, to the NATS cluster"
        }
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::MAXIMUM_CONSUMERS_LIMIT
        | ErrorCode::MAXIMUM_STREAMS_LIMIT
        | ErrorCode::CONSUMER_MAX_PENDING_ACK_EXCESS
        | ErrorCode::CONSUMER_INACTIVE_THRESHOLD_EXCESS
        | ErrorCode::NO_LIMITS => {
            "Raise the limit of the server, the account or the stream, or remove what is no longer needed (nats account \
             info shows both)"
        }
        _ => return None,
    };
    Some(Refusal::new(Reason::NatsLimitReached, format!("NATS refuses {what}: {source}. {remedy}.")))
}

async fn ensure_consumer(plan: &Plan, info: &Info, js: &JetStream) -> Result<Result<(), Refusal>, ReconcileError> {
    let (stream, created, limits) = (&plan.stream.name, created(info), info.config.consumer_limits.as_ref());
    let name = names::shared_consumer(&plan.producer.uid, created);
    if let Some(live) = js.consumer(stream, &name).await? {
        let wanted = configs::fit(plan.consumer_like(&live.config, created), limits);
        if consumers::set_right(js, stream, &wanted, &live.config).await? == Kept::Right {
            return Ok(Ok(()));
        }
        if drift::has_own_floor(&live.config) {
            save_floor(plan, created, live.ack_floor.stream_sequence, js).await?;
        }
        info!(stream, consumer = name, "deleting the consumer, as NATS can't set it right in place");
        js.delete_consumer(stream, &name).await?;
    }
    let entry = js.get(STATE_BUCKET, &names::checkpoint_key(&plan.producer.uid)).await?;
    let mut checkpoint = match entry {
        // A consumer without the checkpoint would deliver everything again.
        Some(entry) => Some(record::decode::<Checkpoint>(&entry.value).map_err(ReconcileError::Checkpoint)?),
        None if plan.is_existing() => Some(begin(plan, info, js).await?),
        None => None,
    };
    if let Some(checkpoint) = checkpoint.as_mut() {
        checkpoint.ack_floor = last_event::recheck(info, checkpoint, js).await?;
    }
    let config = configs::fit(plan.consumer(created, checkpoint.as_ref()), limits);
    match consumers::put(js, stream, &config, ConsumerAction::Create).await {
        Ok(()) => {
            info!(stream, consumer = name, start = ?config.deliver_policy, "created the consumer");
            Ok(Ok(()))
        }
        Err(error) if error.code() == Some(ErrorCode::CONSUMER_ALREADY_EXISTS) => Ok(Ok(())),
        Err(error) => match beyond_limit("the consumer", &error) {
            Some(refusal) => Ok(Err(refusal)),
            None => Err(error.into()),
        },
    }
}

/// Raises the checkpoint to the floor of a consumer that is about to be created again.
async fn save_floor(plan: &Plan, created: Timestamp, floor: u64, js: &JetStream) -> Result<(), ReconcileError> {
    let key = names::checkpoint_key(&plan.producer.uid);
    let none = Checkpoint::new(created, 0, None);
    let (mut checkpoint, revision) = match js.get(STATE_BUCKET, &key).await? {
        Some(entry) => match record::decode(&entry.value) {
            // The consumer knows how far it has come.
            Err(RecordError::NoRecord(_)) => (none, entry.revision),
            checkpoint => (checkpoint.map_err(ReconcileError::Checkpoint)?, entry.revision),
        },
        None => (none, 0),
    };
    if checkpoint.stream_created == created && checkpoint.ack_floor < floor {
        checkpoint.ack_floor = floor;
        checkpoint.last_event = js.stream(&plan.stream.name).await?.as_ref().and_then(last_event::of);
        // If another write came first, its floor is at most some seconds old.
        js.put_at(STATE_BUCKET, &key, record::encode(&checkpoint)?, revision).await?;
    }
    Ok(())
}

/// Notes that the events in an existing stream came before the Producer. This is noted before the consumer exists, so
/// that a consumer that vanishes at once starts at the same event again.
async fn begin(plan: &Plan, info: &Info, js: &JetStream) -> Result<Checkpoint, ReconcileError> {
    let checkpoint = Checkpoint::new(created(info), info.state.last_sequence, last_event::of(info));
    js.put(STATE_BUCKET, &names::checkpoint_key(&plan.producer.uid), record::encode(&checkpoint)?).await?;
    Ok(checkpoint)
}
