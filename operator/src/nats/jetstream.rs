//! The requests that the operator sends to JetStream, all with one error type.

use std::sync::{Arc, OnceLock};

use async_nats::HeaderMap;
use async_nats::connection::State;
use async_nats::jetstream::account::Account;
use async_nats::jetstream::context::{PublishError, RequestError, RequestErrorKind};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::RawMessage;
use async_nats::jetstream::{ErrorCode, consumer, stream};
use bytes::Bytes;
use futures::TryStreamExt as _;
use hookwright_core::nats::installation::Names;
use hookwright_core::nats::names::PARKED_STREAM;
use hookwright_core::record::RecordError;
use hookwright_runtime::nats::Nats;
use hookwright_runtime::publish::publish_at;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cache::stream_sizes::StreamConfig;

/// A request to JetStream failed. `what` names the request, such as `STREAM.INFO.shop_orders`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsError {
    #[error("NATS is not connected")]
    Disconnected,
    #[error("no answer from NATS to {what}")]
    NoAnswer { what: String, source: RequestError },
    #[error("NATS refused {what}")]
    Refused { what: String, source: async_nats::jetstream::Error },
    #[error("NATS did not store {what}")]
    NotStored { what: String, source: PublishError },
    #[error("can't list the subjects of {what}")]
    List { what: String, source: async_nats::jetstream::stream::InfoError },
    #[error("{what} can't be written")]
    Encode { what: String, source: RecordError },
    #[error("the reply to {what} can't be read")]
    Reply { what: String, source: async_nats::Error },
}

impl JsError {
    /// Returns the server's error code if the server refused.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { source, .. } => Some(source.error_code()),
            _ => None,
        }
    }

    /// Returns whether JetStream can't be reached or has no leader now, rather than refusing. A missing stream counts
    /// as unavailable: it was just seen, or it is Hookwright's own, so it will be there again.
    pub(crate) fn is_unavailable(&self) -> bool {
        match self {
            Self::Disconnected | Self::NotStored { .. } | Self::List { .. } => true,
            Self::NoAnswer { source, .. } => source.kind() != RequestErrorKind::InvalidSubject,
            Self::Refused { source, .. } => source.code() == 503 || source.error_code() == ErrorCode::STREAM_NOT_FOUND,
            Self::Encode { .. } | Self::Reply { .. } => false,
        }
    }
}

pub(crate) type JsResult<T> = Result<T, JsError>;

/// The connection to JetStream. Requests fail until the first connection is made.
#[derive(Clone, Default)]
pub(crate) struct JetStream(Arc<OnceLock<Nats>>);

/// Whether a consumer is to be created or changed.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ConsumerAction {
    Create,
    Update,
}

impl JetStream {
    /// Sets the first connection.
    pub(crate) fn connected(&self, nats: Nats) {
        // It is set once, by the one task that connects.
        let _ = self.0.set(nats);
    }

    /// Returns the connection if it is up now.
    pub(crate) fn nats(&self) -> JsResult<&Nats> {
        let nats = self.0.get().ok_or(JsError::Disconnected)?;
        if nats.client.connection_state() == State::Connected { Ok(nats) } else { Err(JsError::Disconnected) }
    }

    /// Returns the names of what this installation has in NATS. They are known from the first connection on.
    pub(crate) fn names(&self) -> JsResult<&Names> {
        self.0.get().map(|nats| &nats.names).ok_or(JsError::Disconnected)
    }

    /// Returns the number of connections so far. If it differs from an earlier value, NATS was away in between.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.get().map_or(0, |nats| *nats.connected.borrow())
    }

    /// Returns the size of the largest message that the server takes, headers included.
    pub(crate) fn max_payload(&self) -> JsResult<usize> {
        Ok(self.nats()?.client.server_info().max_payload)
    }

    /// Returns the server's time. What is compared with times that servers and dispatchers have written goes by it, as this
    /// machine's clock may be off.
    pub(crate) async fn time(&self) -> JsResult<Timestamp> {
        #[derive(serde::Deserialize)]
        struct Answer {
            ts: Timestamp,
        }
        let info = format!("STREAM.INFO.{}", self.names()?.stream(PARKED_STREAM));
        Ok(self.ask::<Answer>(info, &json!({})).await?.ts)
    }

    pub(crate) async fn ask<T: DeserializeOwned>(&self, what: String, payload: &impl Serialize) -> JsResult<T> {
        let answer = self.nats()?.jetstream.request(what.clone(), payload).await;
        match answer {
            Ok(Response::Ok(answer)) => Ok(answer),
            Ok(Response::Err { error }) => Err(JsError::Refused { what, source: error }),
            Err(source) => Err(JsError::NoAnswer { what, source }),
        }
    }

    /// Returns the limits of the account, and what it uses.
    pub(crate) async fn account(&self) -> JsResult<Account> {
        self.ask("INFO".to_owned(), &json!({})).await
    }

    /// Publishes a message under a subject of a bucket, or of Hookwright's own, and waits until it is stored. Returns its
    /// sequence.
    pub(crate) async fn publish(&self, subject: String, headers: HeaderMap, body: Bytes) -> JsResult<u64> {
        let subject = self.names()?.subject(&subject).into_owned();
        let stored = |source| JsError::NotStored { what: subject.clone(), source };
        let jetstream = &self.nats()?.jetstream;
        let ack = jetstream.publish_with_headers(subject.clone(), headers, body).await.map_err(stored)?;
        Ok(ack.await.map_err(stored)?.sequence)
    }

    /// Publishes a message if the last message of its subject has this sequence. Returns the new sequence, or none if the
    /// last sequence was another one.
    pub(crate) async fn publish_at(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
        sequence: u64,
    ) -> JsResult<Option<u64>> {
        let stored = publish_at(&self.nats()?.jetstream, subject.clone(), headers, body, sequence).await;
        stored.map_err(|source| JsError::NotStored { what: subject, source })
    }

    pub(crate) async fn stream(&self, name: &str) -> JsResult<Option<stream::Info>> {
        found(self.ask(format!("STREAM.INFO.{name}"), &json!({})).await, ErrorCode::STREAM_NOT_FOUND)
    }

    /// Returns the configurations of all streams of the account; none if some servers have not answered.
    pub(crate) async fn streams(&self) -> JsResult<Option<Vec<StreamConfig>>> {
        #[derive(serde::Deserialize)]
        struct Page {
            total: usize,
            streams: Option<Vec<Listed>>,
            missing: Option<Vec<String>>,
        }
        #[derive(serde::Deserialize)]
        struct Listed {
            config: StreamConfig,
        }
        let mut all = Vec::new();
        loop {
            let page: Page = self.ask("STREAM.LIST".to_owned(), &json!({ "offset": all.len() })).await?;
            if page.missing.is_some_and(|missing| !missing.is_empty()) {
                return Ok(None);
            }
            let before = all.len();
            all.extend(page.streams.into_iter().flatten().map(|listed| listed.config));
            if all.len() == before || all.len() >= page.total {
                return Ok(Some(all));
            }
        }
    }

    pub(crate) async fn create_stream(&self, config: &stream::Config) -> JsResult<stream::Info> {
        self.ask(format!("STREAM.CREATE.{}", config.name), config).await
    }

    pub(crate) async fn update_stream(&self, config: &stream::Config) -> JsResult<stream::Info> {
        self.ask(format!("STREAM.UPDATE.{}", config.name), config).await
    }

    /// Deletes a stream. A stream that doesn't exist counts as deleted.
    pub(crate) async fn delete_stream(&self, name: &str) -> JsResult<()> {
        let answer: JsResult<stream::DeleteStatus> = self.ask(format!("STREAM.DELETE.{name}"), &json!({})).await;
        found(answer, ErrorCode::STREAM_NOT_FOUND).map(|_| ())
    }

    pub(crate) async fn consumer(&self, stream: &str, name: &str) -> JsResult<Option<consumer::Info>> {
        let answer = self.ask(format!("CONSUMER.INFO.{stream}.{name}"), &json!({})).await;
        match found(answer, ErrorCode::CONSUMER_NOT_FOUND) {
            Err(error) if error.code() == Some(ErrorCode::STREAM_NOT_FOUND) => Ok(None),
            answer => answer,
        }
    }

    pub(crate) async fn put_consumer(
        &self,
        stream: &str,
        config: &consumer::Config,
        action: ConsumerAction,
    ) -> JsResult<consumer::Info> {
        let name = config.durable_name.as_deref().unwrap_or_default();
        let filter =
            if config.filter_subject.is_empty() { String::new() } else { format!(".{}", config.filter_subject) };
        let request = json!({ "stream_name": stream, "config": config, "action": action });
        self.ask(format!("CONSUMER.CREATE.{stream}.{name}{filter}"), &request).await
    }

    /// Deletes a consumer. A consumer that doesn't exist counts as deleted.
    pub(crate) async fn delete_consumer(&self, stream: &str, name: &str) -> JsResult<()> {
        let answer: JsResult<stream::DeleteStatus> =
            self.ask(format!("CONSUMER.DELETE.{stream}.{name}"), &json!({})).await;
        match found(answer, ErrorCode::CONSUMER_NOT_FOUND) {
            Err(error) if error.code() != Some(ErrorCode::STREAM_NOT_FOUND) => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns how many subjects of the messages of one of Hookwright's streams match `filter`.
    pub(crate) async fn count_subjects(&self, stream: &str, filter: &str) -> JsResult<u64> {
        #[derive(serde::Deserialize)]
        struct Page {
            #[serde(default)]
            total: u64,
        }
        // Only the total is wanted, so this asks for the page after the last one.
        let (stream, filter) = (self.names()?.stream(stream), self.names()?.subject(filter));
        let request = json!({ "subjects_filter": filter, "offset": i32::MAX });
        Ok(self.ask::<Page>(format!("STREAM.INFO.{stream}"), &request).await?.total)
    }

    /// Returns how many messages one of Hookwright's streams has on one subject.
    pub(crate) async fn count_messages(&self, stream: &str, subject: &str) -> JsResult<u64> {
        #[derive(serde::Deserialize)]
        struct Answer {
            state: State,
        }
        #[derive(serde::Deserialize)]
        struct State {
            #[serde(default)]
            subjects: Option<std::collections::HashMap<String, u64>>,
        }
        let (stream, subject) = (self.names()?.stream(stream), self.names()?.subject(subject));
        let request = json!({ "subjects_filter": subject });
        let answer: Answer = self.ask(format!("STREAM.INFO.{stream}"), &request).await?;
        Ok(answer.state.subjects.and_then(|subjects| subjects.get(&*subject).copied()).unwrap_or(0))
    }

    /// Returns the first message from this sequence on whose subject matches `filter`, decoded from JSON.
    pub(crate) async fn next_message(&self, stream: &str, from: u64, filter: &str) -> JsResult<Option<RawMessage>> {
        #[derive(serde::Deserialize)]
        struct Stored {
            message: RawMessage,
        }
        let request = json!({ "seq": from, "next_by_subj": filter });
        let answer: JsResult<Stored> = self.ask(format!("STREAM.MSG.GET.{stream}"), &request).await;
        Ok(found(answer, ErrorCode::NO_MESSAGE_FOUND)?.map(|stored| stored.message))
    }

    /// Returns the subjects of a stream's messages that match `filter`. The leader answers, in as many pages as it takes.
    pub(crate) async fn subjects(&self, stream: &str, filter: &str) -> JsResult<Vec<String>> {
        let list = |source| JsError::List { what: stream.to_owned(), source };
        let handle = self.nats()?.jetstream.get_stream_no_info(stream).await;
        let handle = handle.map_err(|source| JsError::Reply { what: stream.to_owned(), source: source.into() })?;
        let subjects = handle.info_with_subjects(filter).await.map_err(list)?;
        subjects.map_ok(|(subject, _)| subject).try_collect().await.map_err(list)
    }
}

/// Returns none in place of the error that says that the thing doesn't exist.
pub(crate) fn found<T>(answer: JsResult<T>, missing: ErrorCode) -> JsResult<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == Some(missing) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns when the server created the stream.
pub(crate) fn created(info: &stream::Info) -> Timestamp {
    // A time that jiff can't hold lies beyond the year 9999.
    Timestamp::from_nanosecond(info.created.unix_timestamp_nanos()).unwrap_or_default()
}

/// Returns when the server created the consumer.
pub(crate) fn consumer_created(info: &consumer::Info) -> Timestamp {
    Timestamp::from_nanosecond(info.created.unix_timestamp_nanos()).unwrap_or_default()
}

/// Headers of a message, from what `core` says.
pub(crate) fn header_map(headers: impl IntoIterator<Item = (&'static str, String)>) -> HeaderMap {
    headers.into_iter().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.insert(name, value);
        map
    })
}
