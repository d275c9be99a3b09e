//! Puts aside events that no dispatcher can read.
//!
//! NATS stores what a publisher sends as subject and headers. The client library ends the connection at a header block
//! that is not UTF-8 or has a space in a name, and at a subject with white space that only Unicode knows. At a lone
//! carriage return in a value it panics, and the dispatcher ends. So such an event comes again after each `ack_wait` and
//! interrupts every dispatcher. The operator reads it as JSON, keeps it as a dead letter of its Producer, and acks it in
//! place of the dispatchers. If NATS refuses the dead letter for good, the event is let go, as it would go on to
//! interrupt them.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use async_nats::jetstream::consumer;
use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderName, HeaderValue, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hookwright_core::delivery::dead_letter::DeadLetter;
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::event_ref::EventRef;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names;
use hookwright_core::record::RecordError;
use hookwright_runtime::logging;
use hookwright_runtime::refusal::Refusal;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::cache::producers::LiveProducer;
use crate::nats::jetstream::{JetStream, JsError, JsResult, header_map};

/// How many events behind the ack floor a turn looks at.
const LOOK: u64 = 256;
/// A larger event is kept as a reference. Such events are rare, so there is no account of how much of them is kept.
const LARGEST: usize = 8 << 10;
/// How long dead letters wait for room in a storage that is full.
const ROOM: Duration = Duration::from_secs(60);
const DETAIL: &str = "the message's subject or headers can't be read: not UTF-8, white space or a control character in a name, \
     or a lone carriage return in a value";

/// What a look at a Producer's events leaves for the next one.
#[derive(Clone, Default)]
pub(crate) struct Looked {
    /// Where the look on a subject goes on, if it has not come to the end.
    next: HashMap<String, u64>,
    /// Since when NATS has had no room for dead letters.
    full_since: Option<Instant>,
}

/// How many events were put aside, and how many of them could not be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PutAside {
    pub(crate) events: u64,
    pub(crate) lost: u64,
}

/// An unreadable event can't be put aside.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnreadableError {
    #[error("can't put an unreadable event aside")]
    Nats(#[from] JsError),
    #[error("the dead letter can't be written")]
    Encode(#[from] RecordError),
}

/// A look for unreadable events of one Producer.
struct Search<'a> {
    js: &'a JetStream,
    uid: &'a ProducerUid,
    live: &'a LiveProducer,
    consumer: &'a consumer::Info,
    looked: &'a mut Looked,
    found: PutAside,
}

/// Puts unreadable events aside, if events behind the ack floor come again and again.
pub(crate) async fn put_aside(
    js: &JetStream,
    uid: &ProducerUid,
    live: &LiveProducer,
    consumer: &consumer::Info,
    looked: &mut Looked,
) -> (PutAside, Result<(), UnreadableError>) {
    let mut search = Search { js, uid, live, consumer, looked, found: PutAside::default() };
    if consumer.num_ack_pending == 0 || consumer.num_redelivered == 0 {
        return (search.found, Ok(()));
    }
    let all = [">".to_owned()];
    let mut first = Ok(());
    // An existing stream has events that don't concern this Producer.
    for subject in if live.filter.is_empty() { &all[..] } else { &live.filter } {
        first = first.and(search.on(subject).await);
    }
    (search.found, first)
}

impl Search<'_> {
    /// Looks at some events on a subject, from where the last look has ended. An outage ends it.
    async fn on(&mut self, subject: &str) -> Result<(), UnreadableError> {
        let after_floor = self.consumer.ack_floor.stream_sequence + 1;
        let mut from = self.looked.next.remove(subject).unwrap_or(after_floor).max(after_floor);
        for _ in 0..LOOK {
            let Some(message) = self.js.next_message(&self.live.stream.name, from, subject).await? else {
                return Ok(());
            };
            if message.sequence > self.consumer.delivered.stream_sequence {
                return Ok(());
            }
            from = message.sequence + 1;
            if !is_readable(&message) {
                self.put_aside(message).await?;
            }
        }
        self.looked.next.insert(subject.to_owned(), from);
        Ok(())
    }

    async fn put_aside(&mut self, message: RawMessage) -> Result<(), UnreadableError> {
        let (sequence, stream) = (message.sequence, &self.live.stream.name);
        match bury(self.js, self.uid, self.live, message).await? {
            None => self.looked.full_since = None,
            // It is looked at again in the next round.
            Some((Refusal::NoRoom, _)) if !self.looked.is_full_for_long() => return Ok(()),
            Some((_, failure)) => {
                error!(
                    producer_uid = %self.uid, stream, sequence, error = logging::chain(&failure),
                    "NATS refuses the dead letter of an unreadable event, even without the event; it is not kept: check the \
                     limits of stream {} and of the account", names::DEAD_LETTER_STREAM
                );
                self.found.lost += 1;
            }
        }
        ack(self.js, self.live, sequence).await?;
        warn!(producer_uid = %self.uid, stream, sequence, "put an unreadable event aside");
        self.found.events += 1;
        Ok(())
    }
}

impl Looked {
    fn is_full_for_long(&mut self) -> bool {
        self.full_since.get_or_insert_with(Instant::now).elapsed() >= ROOM
    }
}

/// Returns whether the client library can read the message. This repeats the checks of its reader (async-nats 0.51).
fn is_readable(message: &RawMessage) -> bool {
    // In the server's JSON, bytes of a subject that are not UTF-8 are replacement characters.
    let unreadable = |c: char| c.is_whitespace() || c == char::REPLACEMENT_CHARACTER;
    if message.subject.contains(unreadable) {
        return false;
    }
    let Some(encoded) = &message.headers else { return true };
    BASE64_STANDARD.decode(encoded).is_ok_and(|block| are_readable(&block))
}

fn are_readable(block: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(block) else { return false };
    let mut lines = text.lines().peekable();
    let Some(version) = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")) else { return false };
    let status = version.trim().split(' ').next().unwrap_or_default();
    if !status.is_empty() && StatusCode::from_str(status).is_err() {
        return false;
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let Some((name, value)) = line.split_once(':') else { return false };
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        if HeaderName::from_str(name).is_err() || HeaderValue::from_str(value.trim_end()).is_err() {
            return false;
        }
    }
    true
}

/// Keeps the event as a dead letter, without the event if NATS doesn't take it whole. Returns the refusal if NATS takes
/// neither.
async fn bury(
    js: &JetStream,
    uid: &ProducerUid,
    live: &LiveProducer,
    message: RawMessage,
) -> Result<Option<(Refusal, JsError)>, UnreadableError> {
    let body = BASE64_STANDARD.decode(&message.payload).unwrap_or_default();
    let event = EventRef {
        stream: live.stream.name.clone(),
        stream_created: live.stream.created,
        sequence: message.sequence,
        subject: message.subject,
        published: Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).unwrap_or_default(),
        event_type: String::new(),
    };
    let letter = DeadLetter::of_event(uid.clone(), event, DeadLetterReason::Malformed, Timestamp::now());
    let letter = letter.with_detail(Some(DETAIL.to_owned()));
    if body.len() <= LARGEST && keep(js, &letter, body.into()).await?.is_none() {
        return Ok(None);
    }
    keep(js, &DeadLetter { reference_only: true, ..letter }, Bytes::new()).await
}

/// Stores a dead letter. Returns the refusal if NATS has no room for it, or never takes it.
async fn keep(js: &JetStream, letter: &DeadLetter, body: Bytes) -> Result<Option<(Refusal, JsError)>, UnreadableError> {
    match js.publish(names::dead_event(&letter.producer), header_map(letter.headers()?), body).await {
        Ok(_) => Ok(None),
        Err(failure) => match &failure {
            JsError::NotStored { source, .. } if Refusal::of(source) != Refusal::Outage => {
                Ok(Some((Refusal::of(source), failure)))
            }
            _ => Err(failure.into()),
        },
    }
}

/// Acks an event under the reply subject of its delivery (ADR-15 of NATS). The server goes by the stream's sequence.
async fn ack(js: &JetStream, live: &LiveProducer, sequence: u64) -> JsResult<()> {
    let what = format!("$JS.ACK.{}.{}.1.{sequence}.1.0.0", live.stream.name, live.consumer);
    let published = js.nats()?.client.publish(what.clone(), Bytes::from_static(b"+ACK")).await;
    published.map_err(|source| JsError::Reply { what, source: source.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_the_client_can_not_read() {
        for (block, want) in [
            (&b"NATS/1.0\r\nname: value\r\n more\r\n\r\n"[..], true),
            (b"NATS/1.0\r\n\r\n", true),
            (b"NATS/1.0 404 No Messages\r\n\r\n", true),
            (b"NATS/1.0\r\nname: \rtrimmed\r\r\n\r\n", true),
            (b"NATS/1.0\r\nname: lone\rreturn\r\n\r\n", false),
            (b"NATS/1.0\r\nname: more\r\n lone\rreturn\r\n\r\n", false),
            (b"NATS/1.0 nonsense\r\n\r\n", false),
            (b"NATS/1.0\r\nbad name: 1\r\n\r\n", false),
            (b"NATS/1.0\r\nno colon\r\n\r\n", false),
            (b"NATS/1.0\r\nname: \xff\r\n\r\n", false),
            (b"HTTP/1.1\r\n\r\n", false),
        ] {
            assert_eq!(are_readable(block), want, "{}", String::from_utf8_lossy(block));
        }
    }
}
