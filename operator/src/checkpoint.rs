//! Looks after each shared consumer: remembers how far it has come, for the day that one vanishes, and puts aside what no
//! dispatcher can read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use hookwright_core::ids::ProducerUid;
use hookwright_core::names::{self, STATE_BUCKET};
use hookwright_core::record::{self, Checkpoint, RecordError};
use hookwright_crds::Producer;
use hookwright_runtime::logging;
use kube::runtime::reflector::ObjectRef;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use crate::context::Context;
use crate::facts::LiveProducer;
use crate::jetstream::JsError;
use crate::unreadable::{self, UnreadableError};

const EVERY: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 16;

/// A checkpoint can't be taken.
#[derive(Debug, thiserror::Error)]
enum CheckpointError {
    #[error("can't take the checkpoint")]
    Nats(#[from] JsError),
    #[error("the checkpoint can't be written")]
    Encode(#[from] RecordError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableError),
}

/// Takes checkpoints for ever. A failure costs nothing but the next try: the last checkpoint stays.
pub(crate) async fn keep(ctx: Arc<Context>) -> Infallible {
    let mut last: HashMap<ProducerUid, Checkpoint> = HashMap::new();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if ctx.js.nats().is_err() {
            continue;
        }
        let live = ctx.facts.live();
        last.retain(|uid, _| live.iter().any(|(other, _)| other == uid));
        let taken: Vec<_> = futures::stream::iter(live)
            .map(|(uid, live)| {
                let (ctx, old) = (&ctx, last.get(&uid).cloned());
                async move { (take(ctx, &uid, &live, old.as_ref()).await, uid) }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (result, uid) in taken {
            match result {
                Ok(Some(checkpoint)) => drop(last.insert(uid, checkpoint)),
                Ok(None) => {}
                Err(error) => debug!(producer = %uid, error = logging::chain(&error), "no checkpoint"),
            }
        }
    }
}

/// The consumer has vanished: the Producer's reconcile makes it anew, from the last checkpoint on.
fn re_create(ctx: &Context, uid: &ProducerUid) {
    let is_it = |producer: &Producer| producer.metadata.uid.as_deref() == Some(uid.as_str());
    for producer in ctx.producers.state_filter(is_it) {
        ctx.triggers.producers.reconcile(ObjectRef::from_obj(&*producer));
    }
}

async fn take(
    ctx: &Context,
    uid: &ProducerUid,
    live: &LiveProducer,
    old: Option<&Checkpoint>,
) -> Result<Option<Checkpoint>, CheckpointError> {
    let Some(consumer) = ctx.js.consumer(&live.stream.name, &live.consumer).await? else {
        re_create(ctx, uid);
        return Ok(None);
    };
    let put_aside = unreadable::put_aside(&ctx.js, uid, live, &consumer).await?;
    ctx.metrics.unreadable_events.inc_by(put_aside);
    let checkpoint = Checkpoint {
        version: record::VERSION,
        stream_created: live.stream.created,
        ack_floor: consumer.ack_floor.stream_sequence,
    };
    // A consumer that acked nothing says nothing; one that was just re-created must not put an older floor back.
    let same_stream = old.is_some_and(|old| old.stream_created == checkpoint.stream_created);
    let behind = same_stream && old.is_some_and(|old| old.ack_floor >= checkpoint.ack_floor);
    if checkpoint.ack_floor == 0 || behind {
        return Ok(None);
    }
    ctx.js.put(STATE_BUCKET, &names::checkpoint_key(uid), record::encode(&checkpoint)?).await?;
    Ok(Some(checkpoint))
}
