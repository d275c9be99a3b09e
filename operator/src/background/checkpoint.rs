//! Looks after each shared consumer: remembers how far it has come, for the day that one vanishes, notices what became of
//! its stream, and puts aside what no dispatcher can read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, DeliverPolicy};
use async_nats::jetstream::stream;
use futures::StreamExt;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::loss::Look;
use hookwright_core::nats::names::{self, STATE_BUCKET};
use hookwright_core::nats::subject::is_within;
use hookwright_core::record::{self, Checkpoint, RecordError};
use hookwright_runtime::logging;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use crate::background::unreadable::{self, UnreadableError};
use crate::cache::producers::LiveProducer;
use crate::context::Context;
use crate::nats::jetstream::{JetStream, JsError, JsResult, consumer_created, created};
use crate::status::conditions;

const EVERY: Duration = Duration::from_secs(10);
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

/// A checkpoint as it is in the bucket.
#[derive(Clone)]
struct Stored {
    checkpoint: Checkpoint,
    revision: u64,
}

/// Takes checkpoints for ever. A failure costs nothing but the next try: the last checkpoint stays.
pub(crate) async fn keep(ctx: Arc<Context>) -> Infallible {
    let mut last: HashMap<ProducerUid, Stored> = HashMap::new();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if ctx.js.nats().is_err() {
            continue;
        }
        let taken: Vec<_> = futures::stream::iter(ctx.producer_states.live())
            .map(|(uid, live)| {
                let (ctx, old) = (&ctx, last.get(&uid).cloned());
                async move { (take(ctx, &uid, &live, old).await, uid) }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        // What failed is read again: someone else may have written.
        last.clear();
        for (result, uid) in taken {
            match result {
                Ok(Some(stored)) => drop(last.insert(uid, stored)),
                Ok(None) => {}
                Err(error) => debug!(producer = %uid, error = logging::chain(&error), "no checkpoint"),
            }
        }
    }
}

/// Reconciles the Producer. If its stream or consumer has vanished, the reconcile creates it again, the consumer from the
/// last checkpoint on.
fn reconcile(ctx: &Context, uid: &ProducerUid) {
    if let Some(producer) = ctx.producers.find(uid.as_str()) {
        ctx.triggers.producers.reconcile(producer);
    }
}

async fn take(
    ctx: &Context,
    uid: &ProducerUid,
    live: &LiveProducer,
    old: Option<Stored>,
) -> Result<Option<Stored>, CheckpointError> {
    let old = match old {
        Some(old) => Some(old),
        None => stored(&ctx.js, uid).await?,
    };
    let Some((stream, consumer)) = look(&ctx.js, live).await? else {
        reconcile(ctx, uid);
        return Ok(old);
    };
    let put_aside = unreadable::put_aside(&ctx.js, uid, live, &consumer).await?;
    ctx.metrics.unreadable_events.inc_by(put_aside);
    let seen = seen(live, &stream, &consumer);
    let floor = consumer.ack_floor.stream_sequence;
    let before = old.as_ref().map(|old| &old.checkpoint);
    let (checkpoint, found) = Checkpoint::after(before, live.stream.created, floor, &seen, conditions::now());
    let replaced = before.is_some_and(|before| before.stream_created != checkpoint.stream_created);
    let revision = match &old {
        Some(old) if old.checkpoint == checkpoint => old.revision,
        _ => {
            let revision = old.as_ref().map_or(0, |old| old.revision);
            let value = record::encode(&checkpoint)?;
            let Some(revision) = ctx.js.put_at(STATE_BUCKET, &names::checkpoint_key(uid), value, revision).await?
            else {
                return Ok(None);
            };
            revision
        }
    };
    if found.events > 0 {
        warn!(producer = %uid, stream = live.stream.name, events = found.events, exact = found.exact, "events are lost");
        ctx.metrics.events_lost.inc_by(found.events);
    }
    if replaced {
        warn!(producer = %uid, stream = live.stream.name, "the stream was replaced");
        ctx.metrics.streams_replaced.inc();
    }
    if ctx.stream_incidents.note(uid, &checkpoint) {
        reconcile(ctx, uid);
    }
    Ok(Some(Stored { checkpoint, revision }))
}

async fn stored(js: &JetStream, uid: &ProducerUid) -> Result<Option<Stored>, CheckpointError> {
    let Some(entry) = js.get(STATE_BUCKET, &names::checkpoint_key(uid)).await? else { return Ok(None) };
    Ok(Some(Stored { checkpoint: record::decode(&entry.value)?, revision: entry.revision }))
}

/// The stream, and then the consumer: what had gone from the stream and isn't delivered afterwards, never will be. None
/// if one of them isn't the one that it was.
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
    // What is sourced or renamed is on subjects that aren't listed.
    let listed = taken.sources.as_ref().is_none_or(Vec::is_empty) && taken.subject_transform.is_none();
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
