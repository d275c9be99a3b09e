//! Events that no dispatcher can read.
//!
//! NATS stores what a publisher sends as headers; the client library ends the connection at a header block that is not
//! UTF-8 or has a name with a space in it, so such an event comes again after each `ack_wait` and interrupts every
//! dispatcher. The operator gets it as JSON, keeps it as a dead letter of its Producer, and acks it in their place.

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use async_nats::jetstream::{ErrorCode, consumer};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hookwright_core::decide::DeadLetterReason;
use hookwright_core::ids::ProducerUid;
use hookwright_core::names;
use hookwright_core::parked::{DEAD_LETTER_HEADER, DeadLetter, EventRef, Progress};
use hookwright_core::record::{self, RecordError};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tracing::warn;

use crate::facts::LiveProducer;
use crate::jetstream::{JetStream, JsError, JsResult, found};

/// How many events behind the ack floor are looked at each time.
const LOOK: u64 = 32;
const DETAIL: &str = "the message's headers can't be read: not UTF-8, or a name with a space or a control character";

/// An unreadable event can't be put aside.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnreadableError {
    #[error("can't put an unreadable event aside")]
    Nats(#[from] JsError),
    #[error("the dead letter can't be written")]
    Encode(#[from] RecordError),
}

#[derive(Deserialize)]
struct Stored {
    message: RawMessage,
}

/// Puts unreadable events aside, if something comes again and again behind the ack floor.
pub(crate) async fn put_aside(
    js: &JetStream,
    uid: &ProducerUid,
    live: &LiveProducer,
    consumer: &consumer::Info,
) -> Result<(), UnreadableError> {
    if consumer.num_ack_pending == 0 || consumer.num_redelivered == 0 {
        return Ok(());
    }
    let floor = consumer.ack_floor.stream_sequence;
    for sequence in floor + 1..=consumer.delivered.stream_sequence.min(floor + LOOK) {
        let Some(message) = message(js, &live.stream.name, sequence).await? else { continue };
        if StreamMessage::try_from(message.clone()).is_err() {
            bury(js, uid, live, message).await?;
            ack(js, live, sequence).await?;
            warn!(producer = %uid, stream = live.stream.name, sequence, "an event with unreadable headers was put aside");
        }
    }
    Ok(())
}

async fn message(js: &JetStream, stream: &str, sequence: u64) -> JsResult<Option<RawMessage>> {
    let answer: JsResult<Stored> = js.ask(format!("STREAM.MSG.GET.{stream}"), &json!({ "seq": sequence })).await;
    Ok(found(answer, ErrorCode::NO_MESSAGE_FOUND)?.map(|stored| stored.message))
}

async fn bury(
    js: &JetStream,
    uid: &ProducerUid,
    live: &LiveProducer,
    message: RawMessage,
) -> Result<(), UnreadableError> {
    let body = BASE64_STANDARD.decode(&message.payload).unwrap_or_default();
    let letter = DeadLetter {
        version: record::VERSION,
        reason: DeadLetterReason::Malformed,
        detail: Some(DETAIL.to_owned()),
        time: Timestamp::now(),
        producer: uid.clone(),
        subscription: None,
        id: None,
        event: EventRef {
            stream: live.stream.name.clone(),
            stream_created: live.stream.created,
            sequence: message.sequence,
            subject: message.subject,
            published: Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).unwrap_or_default(),
            event_type: String::new(),
        },
        progress: Progress::default(),
        reference_only: false,
    };
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", letter.message_id());
    headers.insert(DEAD_LETTER_HEADER, String::from_utf8_lossy(&record::encode(&letter)?).into_owned());
    js.publish(names::dead_event(uid), headers, body.into()).await?;
    Ok(())
}

/// The ack of an event, under the subject that its delivery has as reply (ADR-15 of NATS): the server goes by the
/// stream's sequence.
async fn ack(js: &JetStream, live: &LiveProducer, sequence: u64) -> JsResult<()> {
    let what = format!("$JS.ACK.{}.{}.1.{sequence}.1.0.0", live.stream.name, live.consumer);
    let published = js.nats()?.client.publish(what.clone(), Bytes::from_static(b"+ACK")).await;
    published.map_err(|source| JsError::Reply { what, source: source.into() })
}
