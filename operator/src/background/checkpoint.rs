//! Looks at each shared consumer and its stream. It remembers how far the consumer has come, in case it vanishes,
//! notices what happened to the stream, has edits of both put right, and puts unreadable events aside.

use std::collections::HashMap;

use async_nats::jetstream::consumer::{self, DeliverPolicy};
use async_nats::jetstream::stream;
use futures::StreamExt;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::loss::Look;
use hookwright_core::nats::names::{self, STATE_BUCKET};
use hookwright_core::nats::subject::is_within;
use hookwright_core::record::{self, Checkpoint, RecordError};
use hookwright_runtime::logging;
use tracing::{debug, warn};

use crate::background::Periodic;
use crate::background::unreadable::{self, Looked, PutAside, UnreadableError};
use crate::cache::producers::LiveProducer;
use crate::cache::progress::Head;
use crate::cache::stream_numbers::numbers;
use crate::context::Context;
use crate::faults;
use crate::nats::jetstream::{JetStream, JsError, JsResult, consumer_created, created};
use crate::nats::{drift, last_event};
use crate::status::conditions;

const AT_ONCE: usize = 16;

/// A checkpoint can't be taken.
#[derive(Debug, thiserror::Error)]
enum CheckpointError {
    #[error("can't take the checkpoint")]
    Nats(#[from] JsError),
    #[error("the checkpoint can't be read or written")]
    Record(#[from] RecordError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableError),
}

/// A checkpoint and its revision in the state bucket.
#[derive(Clone)]
struct Stored {
    checkpoint: Checkpoint,
    revision: u64,
}

/// What a look leaves for the next one.
#[derive(Clone, Default)]
struct Memory {
    /// The checkpoint as it was stored last. A failure leaves the stored checkpoint as it is.
    stored: Option<Stored>,
    /// The configuration of stream and consumer.
    configs: Option<(stream::Config, consumer::Config)>,
    /// How far the look for unreadable events has come.
    looked: Looked,
}

/// The memory of the last look at each Producer.
#[derive(Default)]
pub(crate) struct Checkpoints(HashMap<ProducerUid, Memory>);

impl Periodic for Checkpoints {
    async fn turn(&mut self, ctx: &Context) {
        let mut before = std::mem::take(&mut self.0);
        let turns = ctx.producer_states.live().into_iter().map(|(uid, live)| {
            let mut memory = before.remove(&uid).unwrap_or_default();
            async move {
                let taken = faults::one(&uid, take(ctx, &uid, &live, &mut memory)).await;
                if let Some(Err(error)) = &taken {
                    debug!(producer_uid = %uid, error = logging::chain(error), "can't take a checkpoint");
                }
                if !matches!(taken, Some(Ok(()))) {
                    // It is read again: another operator may have written it.
                    memory.stored = None;
                }
                (uid, memory)
            }
        });
        self.0 = futures::stream::iter(turns).buffer_unordered(AT_ONCE).collect().await;
    }
}

/// Reconciles the Producer. If its stream or consumer has vanished, the reconcile creates it again, the consumer from the
/// last checkpoint on.
fn reconcile(ctx: &Context, uid: &ProducerUid) {
    if let Some(producer) = ctx.producer(uid) {
        ctx.triggers.producers.reconcile(producer);
    }
}

/// Asks for the numbers of the stream to be written into status, if they have changed.
fn ask_for_numbers(ctx: &Context, uid: &ProducerUid, stream: &stream::Info) {
    if !ctx.stream_numbers.is_due(uid) {
        return;
    }
    let Some(producer) = ctx.producers.find(uid.as_str()) else { return };
    let object = ctx.producers.store.get(&producer);
    let told = object.and_then(|object| object.status.as_ref()?.stream.clone());
    let numbers = numbers(stream);
    if told.is_some_and(|told| told != numbers) {
        ctx.stream_numbers.found(uid, numbers);
        ctx.stream_numbers.ask(uid, producer);
    }
}

async fn take(
    ctx: &Context,
    uid: &ProducerUid,
    live: &LiveProducer,
    memory: &mut Memory,
) -> Result<(), CheckpointError> {
    // It is read before the look, so that it is older.
    let read = match memory.stored {
        Some(_) => Ok(()),
        None => stored(&ctx.js, uid).await.map(|found| memory.stored = found),
    };
    let Some((stream, consumer)) = look(&ctx.js, live).await? else {
        reconcile(ctx, uid);
        return Ok(());
    };
    ctx.stream_heads.note(uid, Head { created: live.stream.created, last: stream.state.last_sequence });
    ask_for_numbers(ctx, uid, &stream);
    let configs = Some((stream.config.clone(), consumer.config.clone()));
    let edited = memory.configs.is_some() && memory.configs != configs;
    memory.configs = configs;
    let has_own_floor = drift::has_own_floor(&consumer.config);
    if edited || !has_own_floor {
        reconcile(ctx, uid);
    }
    if !has_own_floor {
        return Ok(());
    }
    let looked = &mut memory.looked;
    let put_aside = faults::one(uid, unreadable::put_aside(&ctx.js, uid, live, &consumer, looked)).await;
    let (put_aside, looked) = put_aside.unwrap_or((PutAside::default(), Ok(())));
    ctx.metrics.unreadable_events.inc_by(put_aside.events);
    ctx.metrics.dead_letters_refused.inc_by(put_aside.lost);
    // The checkpoint goes on, whatever stands in the way of an unreadable event.
    read?;
    note(ctx, uid, live, memory, (&stream, &consumer)).await?;
    Ok(looked?)
}

/// Stores the checkpoint, and tells what it says of the stream.
async fn note(
    ctx: &Context,
    uid: &ProducerUid,
    live: &LiveProducer,
    memory: &mut Memory,
    (stream, consumer): (&stream::Info, &consumer::Info),
) -> Result<(), CheckpointError> {
    let seen = seen(live, stream, consumer);
    let floor = consumer.ack_floor.stream_sequence;
    let mut before = memory.stored.as_ref().map(|old| old.checkpoint.clone());
    if let Some(before) = before.as_mut().filter(|before| before.ack_floor > floor) {
        before.ack_floor = last_event::recheck(stream, before, &ctx.js).await?;
    }
    let place = (floor, last_event::of(stream));
    let (checkpoint, found) = Checkpoint::after(before.as_ref(), live.stream.created, place, &seen, conditions::now());
    let replaced = before.is_some_and(|before| before.stream_created != checkpoint.stream_created);
    let Some(revision) = store(&ctx.js, uid, memory.stored.as_ref(), &checkpoint).await? else {
        memory.stored = None;
        return Ok(());
    };
    let (producer, name) = (|| ctx.producers.full_name(&ctx.identities.object(uid.as_str())), &live.stream.name);
    if found.events > 0 {
        let (producer, events, exact) = (producer(), found.events, found.exact);
        warn!(producer, producer_uid = %uid, stream = name, events, exact, "events were removed before they were received");
        ctx.metrics.events_lost.inc_by(events);
    }
    if replaced {
        warn!(producer = producer(), producer_uid = %uid, stream = name, "the stream was replaced");
        ctx.metrics.streams_replaced.inc();
    }
    if ctx.stream_incidents.note(uid, &checkpoint) {
        reconcile(ctx, uid);
    }
    memory.stored = Some(Stored { checkpoint, revision });
    Ok(())
}

/// Stores the checkpoint unless it is as before. Returns its revision, or none if another operator has stored one.
async fn store(
    js: &JetStream,
    uid: &ProducerUid,
    old: Option<&Stored>,
    checkpoint: &Checkpoint,
) -> Result<Option<u64>, CheckpointError> {
    if let Some(old) = old.filter(|old| old.checkpoint == *checkpoint) {
        return Ok(Some(old.revision));
    }
    let key = names::checkpoint_key(uid);
    // A key that somebody has removed has a mark, whose revision counts.
    let revision = match old {
        Some(old) => old.revision,
        None => js.newest(STATE_BUCKET, &key).await?.revision,
    };
    Ok(js.put_at(STATE_BUCKET, &key, record::encode(checkpoint)?, revision).await?)
}

/// Returns the checkpoint. What is no record counts for none: the consumer is there, and knows how far it has come.
async fn stored(js: &JetStream, uid: &ProducerUid) -> Result<Option<Stored>, CheckpointError> {
    let Some(entry) = js.get(STATE_BUCKET, &names::checkpoint_key(uid)).await? else { return Ok(None) };
    match record::decode(&entry.value) {
        Ok(checkpoint) => Ok(Some(Stored { checkpoint, revision: entry.revision })),
        Err(RecordError::NoRecord(why)) => {
            warn!(producer_uid = %uid, why, "the checkpoint is no record; it is taken anew");
            Ok(None)
        }
        Err(newer) => Err(newer.into()),
    }
}

/// Returns the stream and its consumer, or none if one of them is not the one that it was. The stream is read first:
/// what it had removed by then, and the consumer has not delivered afterwards, will never be delivered.
async fn look(js: &JetStream, live: &LiveProducer) -> JsResult<Option<(stream::Info, consumer::Info)>> {
    let Some(stream) = js.stream(&live.stream.name).await?.filter(|info| created(info) == live.stream.created) else {
        return Ok(None);
    };
    let consumer = js.consumer(&live.stream.name, &live.consumer).await?;
    Ok(consumer.map(|consumer| (stream, consumer)))
}

fn seen(live: &LiveProducer, stream: &stream::Info, consumer: &consumer::Info) -> Look {
    let start = match consumer.config.deliver_policy {
        DeliverPolicy::ByStartSequence { start_sequence } => Some(start_sequence),
        _ => None,
    };
    let taken = &stream.config;
    let is_ours = |subject: &String| live.filter.iter().any(|filter| is_within(subject, filter));
    // Events that are sourced, mirrored or transformed are on subjects that the stream doesn't list.
    let listed =
        taken.sources.as_ref().is_none_or(Vec::is_empty) && taken.mirror.is_none() && taken.subject_transform.is_none();
    Look {
        consumer_created: consumer_created(consumer),
        start,
        delivered: consumer.delivered.stream_sequence,
        deliveries: consumer.delivered.consumer_sequence,
        waits: consumer.num_pending > 0,
        first: stream.state.first_sequence,
        last: stream.state.last_sequence,
        whole: live.filter.is_empty() || listed && taken.subjects.iter().all(is_ours),
    }
}
