//! What a dedicated reader reads: a Producer's stream, in batches, from any of its replicas.
//!
//! A replica may lag, so an empty answer proves nothing; only the leader's answer does. After each batch the leader is
//! asked whether the stream is still the same one. So what was read is of that stream, for all readers and for good.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{ConsumerInfoError, GetStreamError, RequestError};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{InfoError, RawMessage, Stream};
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use hookwright_core::nats::last_event::{LastEvent, Recheck};
use hookwright_core::nats::subject::is_within;
use hookwright_runtime::direct_get::{Answer, Batch, DirectGetError, SEQUENCE, server_header};
use hookwright_runtime::nats::Nats;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use crate::panics;

/// How long the next message of a batch may take.
const SILENCE: Duration = Duration::from_secs(5);
/// The headers that the server adds to a message, behind those of its publisher.
const ADDED: [&str; 6] =
    ["Nats-Stream", "Nats-Subject", SEQUENCE, "Nats-Time-Stamp", "Nats-Num-Pending", "Nats-Last-Sequence"];

/// Why a stream can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("a stream can't have this name")]
    Name(#[source] GetStreamError),
    #[error("can't read the state of the stream")]
    State(#[source] InfoError),
    #[error("can't read the state of the consumer")]
    Consumer(#[source] ConsumerInfoError),
    #[error("can't ask for the next message")]
    Request(#[source] RequestError),
    #[error("the server refused the next message")]
    Refused(#[source] async_nats::jetstream::Error),
    #[error("can't read messages")]
    Batch(#[source] DirectGetError),
    #[error("a message has no position")]
    NoPosition,
    #[error("no message within {SILENCE:?}")]
    Late,
}

/// A message of the stream.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) subject: String,
    pub(crate) time: Timestamp,
    /// `None` if they can't be read.
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) body: Bytes,
}

/// The state of the stream, by its leader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    pub(crate) created: Timestamp,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) last_event: Option<LastEvent>,
    /// Whether replicas answer, too.
    pub(crate) direct: bool,
}

/// How far the shared consumer has come, by its leader.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// The sequence up to which all events are acked.
    pub(crate) floor: u64,
    /// Whether nothing is under way or pending.
    pub(crate) is_idle: bool,
    /// The subjects that it reads; all, if there is none.
    pub(crate) filters: Vec<String>,
}

/// A stream, and the subjects of it that are read.
pub(crate) struct SourceStream {
    pub(crate) nats: Nats,
    pub(crate) name: String,
    pub(crate) filters: Vec<String>,
}

#[derive(Deserialize)]
struct Got {
    message: RawMessage,
}

impl SourceStream {
    async fn handle(&self) -> Result<Stream<()>, StreamError> {
        self.nats.jetstream.get_stream_no_info(&self.name).await.map_err(StreamError::Name)
    }

    /// The state of the stream.
    pub(crate) async fn state(&self) -> Result<State, StreamError> {
        let info = self.handle().await?.get_info().await.map_err(StreamError::State)?;
        // A time that jiff can't hold lies beyond the year 9999.
        let created = Timestamp::from_nanosecond(info.created.unix_timestamp_nanos()).unwrap_or_default();
        let (first, last) = (info.state.first_sequence, info.state.last_sequence);
        let stored = info.state.last_timestamp.unix_timestamp_nanos();
        let last_event = LastEvent::of(last, Timestamp::from_nanosecond(stored).unwrap_or_default());
        Ok(State { created, first, last, last_event, direct: info.config.allow_direct })
    }

    /// How far this consumer of the stream has come.
    pub(crate) async fn shared(&self, consumer: &str) -> Result<Shared, StreamError> {
        let info = self.handle().await?.consumer_info(consumer).await.map_err(StreamError::Consumer)?;
        let mut filters = info.config.filter_subjects;
        if !info.config.filter_subject.is_empty() {
            filters.push(info.config.filter_subject);
        }
        let is_idle = info.num_ack_pending == 0 && info.num_pending == 0;
        Ok(Shared { floor: info.ack_floor.stream_sequence, is_idle, filters })
    }

    /// The messages from this sequence on, as far as the replica that answers has them: at most this many, and at most
    /// this many bytes together unless it is one. They come over the connection `nats`.
    pub(crate) async fn batch(
        &self,
        nats: &Nats,
        from: u64,
        most: usize,
        bytes: usize,
    ) -> Result<Vec<Stored>, StreamError> {
        let wanted = json!({ "seq": from, "batch": most, "max_bytes": bytes, "next_by_subj": self.filter() });
        let mut batch = Batch::ask(nats, &self.name, &wanted).await.map_err(StreamError::Batch)?;
        let mut messages = Vec::new();
        while messages.len() < most {
            let answer = match timeout(SILENCE, batch.next()).await {
                Ok(answer) => answer.map_err(StreamError::Batch),
                Err(_) => Err(StreamError::Late),
            };
            match answer {
                Ok(Answer::Message(message)) => messages.push(stored(message)?),
                Ok(Answer::NotFound | Answer::End(_)) => break,
                // What came before the connection was cut is good.
                Err(_) if !messages.is_empty() => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(messages)
    }

    /// The first message from this sequence on, by the leader. If it has none, there is none.
    pub(crate) async fn at_leader(&self, from: u64) -> Result<Option<Stored>, StreamError> {
        self.next_at_leader(from, self.filter()).await
    }

    /// The sequence up to which all was read, if that was `read` when the stream had this last event. The stream may have
    /// been restored from an earlier moment since.
    pub(crate) async fn recheck(&self, read: u64, last: LastEvent, state: &State) -> Result<u64, StreamError> {
        let mut recheck = Recheck::new(last, read, state.first, state.last);
        while let Some(from) = recheck.asks() {
            let found = self.next_at_leader(from, ">").await?;
            recheck = recheck.answered(found.map(|found| (found.sequence, found.time)));
        }
        Ok(recheck.done())
    }

    async fn next_at_leader(&self, from: u64, filter: &str) -> Result<Option<Stored>, StreamError> {
        let wanted = json!({ "seq": from, "next_by_subj": filter });
        let asked = self.nats.jetstream.request(format!("STREAM.MSG.GET.{}", self.name), &wanted).await;
        let raw = match asked.map_err(StreamError::Request)? {
            Response::Ok(Got { message }) => message,
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => return Ok(None),
            Response::Err { error } => return Err(StreamError::Refused(error)),
        };
        let (sequence, subject) = (raw.sequence, raw.subject.clone());
        let time = Timestamp::from_nanosecond(raw.time.unix_timestamp_nanos()).unwrap_or_default();
        // The client library panics at some headers.
        let read = panics::caught(|| StreamMessage::try_from(raw).ok()).unwrap_or_default();
        let (headers, body) = match read {
            Some(message) => (Some(message.headers), message.payload),
            None => (None, Bytes::new()),
        };
        Ok(Some(Stored { sequence, subject, time, headers, body }))
    }

    /// The one filter that the server applies.
    fn filter(&self) -> &str {
        match &self.filters[..] {
            [one] => one,
            _ => ">",
        }
    }
}

/// Whether a Producer whose consumer has these filters has events under this subject.
pub(super) fn wants(filters: &[String], subject: &str) -> bool {
    filters.len() < 2 || filters.iter().any(|filter| is_within(subject, filter))
}

fn stored(message: Message) -> Result<Stored, StreamError> {
    let position = || {
        let sequence = server_header(&message, SEQUENCE)?.parse().ok()?;
        let time = server_header(&message, "Nats-Time-Stamp")?.parse().ok()?;
        Some((sequence, server_header(&message, "Nats-Subject")?.to_owned(), time))
    };
    let (sequence, subject, time) = position().ok_or(StreamError::NoPosition)?;
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        let added = usize::from(ADDED.contains(&name.as_ref()));
        for value in &values[..values.len().saturating_sub(added)] {
            headers.append(name.clone(), value.clone());
        }
    }
    Ok(Stored { sequence, subject, time, headers: Some(headers), body: message.payload })
}
