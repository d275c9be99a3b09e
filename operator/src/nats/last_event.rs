//! The last event of a stream, by which a stream that was restored from an earlier moment is known.

use async_nats::jetstream::stream::Info;
use hookwright_core::nats::last_event::{LastEvent, Recheck};
use hookwright_core::record::Checkpoint;
use jiff::Timestamp;
use tracing::warn;

use crate::nats::jetstream::{JetStream, JsResult, created};

/// Returns the last event of the stream as it was looked at.
pub(crate) fn of(stream: &Info) -> Option<LastEvent> {
    let stored = Timestamp::from_nanosecond(stream.state.last_timestamp.unix_timestamp_nanos()).unwrap_or_default();
    LastEvent::of(stream.state.last_sequence, stored)
}

/// Returns the sequence up to which all events are done, by a checkpoint. If the stream was restored from a moment before
/// the checkpoint, it is the last one that the stream had then.
pub(crate) async fn recheck(stream: &Info, checkpoint: &Checkpoint, js: &JetStream) -> JsResult<u64> {
    let (name, noted) = (&stream.config.name, checkpoint.ack_floor);
    let Some(last) = checkpoint.last_event.filter(|_| checkpoint.stream_created == created(stream)) else {
        return Ok(noted);
    };
    let mut recheck = Recheck::new(last, noted, stream.state.first_sequence, stream.state.last_sequence);
    while let Some(from) = recheck.asks() {
        let found = js.next_message(name, from, ">").await?;
        let stored = |nanoseconds| Timestamp::from_nanosecond(nanoseconds).unwrap_or_default();
        recheck = recheck.answered(found.map(|found| (found.sequence, stored(found.time.unix_timestamp_nanos()))));
    }
    let done = recheck.done();
    if done < noted {
        warn!(
            stream = name,
            noted, done, "the stream is older than what is known of it; was it restored from a backup?"
        );
    }
    Ok(done)
}
