//! What a dedicated reader reads: a Producer's stream, in batches, from any of its replicas.
//!
//! A replica may lag, so an empty answer proves nothing; only the leader's answer does. After each batch the leader is
//! asked whether the stream is still the same one.

use std::time::Duration;

use async_nats::client::Request;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::RequestError;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderMap, Message, PublishError, StatusCode, SubscribeError};
use bytes::Bytes;
use futures::StreamExt;
use hookwright_core::nats::subject::is_within;
use hookwright_runtime::nats::Nats;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

/// How long the next message of a batch may take.
const SILENCE: Duration = Duration::from_secs(5);
/// The status with which the server ends a batch.
const END_OF_BATCH: u16 = 204;
/// The header with a message's sequence.
const SEQUENCE: &str = "Nats-Sequence";
/// The headers that the server adds to a message, behind those of its publisher.
const ADDED: [&str; 6] =
    ["Nats-Stream", "Nats-Subject", SEQUENCE, "Nats-Time-Stamp", "Nats-Num-Pending", "Nats-Last-Sequence"];

/// Why a stream can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("can't ask for {0}")]
    Request(&'static str, #[source] RequestError),
    #[error("the server refused {what}: {error}")]
    Refused { what: &'static str, error: String },
    #[error("can't subscribe to an inbox for messages")]
    Subscribe(#[source] SubscribeError),
    #[error("can't ask for messages")]
    Ask(#[source] PublishError),
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
struct StreamInfo {
    created: Timestamp,
    state: StreamState,
    config: StreamConfig,
}

#[derive(Deserialize)]
struct StreamState {
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
struct StreamConfig {
    #[serde(default)]
    allow_direct: bool,
}

#[derive(Deserialize)]
struct ConsumerInfo {
    ack_floor: AckFloor,
    num_ack_pending: u64,
    num_pending: u64,
    config: ConsumerConfig,
}

#[derive(Deserialize)]
struct AckFloor {
    stream_seq: u64,
}

#[derive(Deserialize)]
struct ConsumerConfig {
    #[serde(default)]
    filter_subject: String,
    #[serde(default)]
    filter_subjects: Vec<String>,
}

#[derive(Deserialize)]
struct Got {
    message: RawMessage,
}

impl SourceStream {
    /// The state of the stream.
    pub(crate) async fn state(&self) -> Result<State, StreamError> {
        let info: StreamInfo =
            self.ask("the state of the stream", format!("STREAM.INFO.{}", self.name), &json!({})).await?;
        let StreamInfo { created, state, config } = info;
        Ok(State { created, first: state.first_seq, last: state.last_seq, direct: config.allow_direct })
    }

    /// How far this consumer of the stream has come.
    pub(crate) async fn shared(&self, consumer: &str) -> Result<Shared, StreamError> {
        let subject = format!("CONSUMER.INFO.{}.{consumer}", self.name);
        let info: ConsumerInfo = self.ask("the state of the consumer", subject, &json!({})).await?;
        let ConsumerConfig { filter_subject, mut filter_subjects } = info.config;
        if !filter_subject.is_empty() {
            filter_subjects.push(filter_subject);
        }
        let is_idle = info.num_ack_pending == 0 && info.num_pending == 0;
        Ok(Shared { floor: info.ack_floor.stream_seq, is_idle, filters: filter_subjects })
    }

    /// The messages from this sequence on, over the connection `nats`: at most this many, of at most this many bytes together, but at least one, as
    /// far as the replica that answers has them.
    pub(crate) async fn batch(
        &self,
        nats: &Nats,
        from: u64,
        most: usize,
        bytes: usize,
    ) -> Result<Vec<Stored>, StreamError> {
        let inbox = nats.client.new_inbox();
        let mut answers = nats.client.subscribe(inbox.clone()).await.map_err(StreamError::Subscribe)?;
        let wanted = json!({ "seq": from, "batch": most, "max_bytes": bytes, "next_by_subj": self.filter() });
        let request = Request::new().inbox(inbox).payload(wanted.to_string().into());
        let asked = nats.jetstream.send_request(format!("DIRECT.GET.{}", self.name), request).await;
        asked.map_err(StreamError::Ask)?;
        let mut messages = Vec::new();
        loop {
            let answer = timeout(SILENCE, answers.next()).await.map_err(|_| StreamError::Late)?;
            let Some(answer) = answer else { return Err(StreamError::Late) };
            // A publisher may have written a status into its message, too.
            match answer.status.filter(|_| last(&answer, SEQUENCE).is_none()) {
                None => messages.push(stored(answer)?),
                Some(StatusCode::NOT_FOUND) => return Ok(messages),
                Some(status) if status.as_u16() == END_OF_BATCH => return Ok(messages),
                Some(status) => {
                    return Err(StreamError::Refused { what: "messages", error: status.to_string() });
                }
            }
            if messages.len() >= most {
                return Ok(messages);
            }
        }
    }

    /// The first message from this sequence on, by the leader. If it has none, there is none.
    pub(crate) async fn at_leader(&self, from: u64) -> Result<Option<Stored>, StreamError> {
        let wanted = json!({ "seq": from, "next_by_subj": self.filter() });
        let (what, subject) = ("the next message", format!("STREAM.MSG.GET.{}", self.name));
        let got: Option<Got> = self.try_ask(what, subject, &wanted).await?;
        let Some(Got { message: raw }) = got else { return Ok(None) };
        let (sequence, subject) = (raw.sequence, raw.subject.clone());
        let time = Timestamp::from_nanosecond(raw.time.unix_timestamp_nanos()).unwrap_or_default();
        let read = StreamMessage::try_from(raw).ok();
        let (headers, body) = match read {
            Some(message) => (Some(message.headers), message.payload),
            None => (None, Bytes::new()),
        };
        Ok(Some(Stored { sequence, subject, time, headers, body }))
    }

    /// Whether the Producer has events under this subject.
    pub(crate) fn wants(&self, subject: &str) -> bool {
        self.filters.len() < 2 || self.filters.iter().any(|filter| is_within(subject, filter))
    }

    /// The one filter that the server applies.
    fn filter(&self) -> &str {
        match &self.filters[..] {
            [one] => one,
            _ => ">",
        }
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        what: &'static str,
        subject: String,
        payload: &impl serde::Serialize,
    ) -> Result<T, StreamError> {
        let missing = || StreamError::Refused { what, error: "it is not there".to_owned() };
        self.try_ask(what, subject, payload).await?.ok_or_else(missing)
    }

    async fn try_ask<T: serde::de::DeserializeOwned>(
        &self,
        what: &'static str,
        subject: String,
        payload: &impl serde::Serialize,
    ) -> Result<Option<T>, StreamError> {
        let answer: Response<T> =
            self.nats.jetstream.request(subject, payload).await.map_err(|error| StreamError::Request(what, error))?;
        match answer {
            Response::Ok(answer) => Ok(Some(answer)),
            Response::Err { error }
                if [ErrorCode::NO_MESSAGE_FOUND, ErrorCode::STREAM_NOT_FOUND, ErrorCode::CONSUMER_NOT_FOUND]
                    .contains(&error.error_code()) =>
            {
                Ok(None)
            }
            Response::Err { error } => Err(StreamError::Refused { what, error: error.to_string() }),
        }
    }
}

/// The last value of a header: that of the server, if the publisher wrote the same name.
fn last<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get_all(name).last().map(async_nats::HeaderValue::as_str)
}

fn stored(message: Message) -> Result<Stored, StreamError> {
    let position = || {
        let sequence = last(&message, SEQUENCE)?.parse().ok()?;
        let time = last(&message, "Nats-Time-Stamp")?.parse().ok()?;
        Some((sequence, last(&message, "Nats-Subject")?.to_owned(), time))
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
