//! What the leader of a KV bucket has. A replica answers reads and feeds consumers, too, but it may lag behind the
//! leader. So whatever decides something by the absence of a record asks the leader.

use std::collections::HashSet;

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{GetStreamError, PublishError};
use async_nats::jetstream::stream::{InfoError, LastRawMessageError, LastRawMessageErrorKind, Stream};
use bytes::Bytes;
use futures::TryStreamExt;
use hookwright_core::nats::names::LEASES_BUCKET;
use jiff::Timestamp;

use crate::nats::Nats;
use crate::publish::publish_at;
use crate::removal::{is_removal, removal, removal_in_memory};

/// The leader of a bucket did not answer.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    #[error("a bucket can't have this name")]
    Name(#[source] GetStreamError),
    #[error("can't read how far the bucket goes")]
    Last(#[source] LastRawMessageError),
    #[error("can't read the state and the keys of the bucket")]
    Info(#[source] InfoError),
    #[error("NATS did not store the record")]
    Write(#[source] PublishError),
}

/// The newest message under a key.
#[derive(Debug, Clone, Default)]
pub struct Newest {
    /// The message's revision; 0 if there is none.
    pub revision: u64,
    /// The value; none if the key was removed, or never had one.
    pub value: Option<Bytes>,
}

/// A bucket, of which the leader is asked.
#[derive(Debug, Clone)]
pub struct Bucket {
    context: Context,
    stream: Stream<()>,
    prefix: String,
    /// Whether everything in it goes soon, so that marks of removed keys need no time to live.
    in_memory: bool,
}

/// The state of a bucket.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// When the bucket was created. Another bucket of the same name counts its revisions from 1 again.
    pub created: Timestamp,
    /// The last revision that was given out.
    pub end: u64,
}

impl Bucket {
    /// The bucket of this name, which is one of [`names`](hookwright_core::nats::names). Nothing is asked yet.
    ///
    /// # Errors
    /// If a bucket can't have this name.
    pub async fn named(nats: &Nats, name: &str) -> Result<Self, BucketError> {
        let in_memory = name == LEASES_BUCKET;
        let name = nats.names.stream(name);
        let stream = nats.jetstream.get_stream_no_info(format!("KV_{name}")).await.map_err(BucketError::Name)?;
        Ok(Self { context: nats.jetstream.clone(), stream, prefix: format!("$KV.{name}."), in_memory })
    }

    /// The state of the bucket.
    ///
    /// # Errors
    /// If there is no such bucket, or its leader does not answer.
    pub async fn state(&self) -> Result<State, BucketError> {
        let info = self.stream.get_info().await.map_err(BucketError::Info)?;
        // A time that jiff can't hold lies beyond the year 9999.
        let created = Timestamp::from_nanosecond(info.created.unix_timestamp_nanos()).unwrap_or_default();
        Ok(State { created, end: info.state.last_sequence })
    }

    /// The revision of the last record or removal under a key that matches `keys`; 0 if there is none.
    ///
    /// The last sequence of the stream would not do: it stays when the message that had it expires.
    ///
    /// # Errors
    /// If the leader does not answer.
    pub async fn last(&self, keys: &str) -> Result<u64, BucketError> {
        match self.stream.get_last_raw_message_by_subject(&self.subject(keys)).await {
            Ok(message) => Ok(message.sequence),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
            Err(error) => Err(BucketError::Last(error)),
        }
    }

    /// The newest message under a key.
    ///
    /// # Errors
    /// If the leader does not answer.
    pub async fn newest(&self, key: &str) -> Result<Newest, BucketError> {
        match self.stream.get_last_raw_message_by_subject(&self.subject(key)).await {
            Ok(message) => {
                let removed = is_removal(&message.headers);
                Ok(Newest { revision: message.sequence, value: (!removed).then_some(message.payload) })
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(Newest::default()),
            Err(error) => Err(BucketError::Last(error)),
        }
    }

    /// Writes a value if the key is still at this revision, which is 0 for a key without a message. Returns the new
    /// revision, or none if the key was at another revision.
    ///
    /// # Errors
    /// If NATS does not store the value.
    pub async fn put_at(&self, key: &str, value: Bytes, revision: u64) -> Result<Option<u64>, BucketError> {
        self.write_at(key, HeaderMap::new(), value, revision).await
    }

    /// Removes a key if it is still at this revision. Returns whether it was.
    ///
    /// # Errors
    /// If NATS does not store the removal.
    pub async fn remove_at(&self, key: &str, revision: u64) -> Result<bool, BucketError> {
        let headers = if self.in_memory { removal_in_memory() } else { removal() };
        Ok(self.write_at(key, headers, Bytes::new(), revision).await?.is_some())
    }

    async fn write_at(
        &self,
        key: &str,
        headers: HeaderMap,
        value: Bytes,
        revision: u64,
    ) -> Result<Option<u64>, BucketError> {
        publish_at(&self.context, self.subject(key), headers, value, revision).await.map_err(BucketError::Write)
    }

    /// The same as [`Self::last`] for a reader that has come to `reached` in the bucket that was created at `created`,
    /// without reading a record if the bucket goes no further: a record may be large. Returns `None` if the bucket has
    /// been replaced by another one, or by an older copy of itself.
    ///
    /// # Errors
    /// If the leader does not answer.
    pub async fn last_after(&self, keys: &str, created: Timestamp, reached: u64) -> Result<Option<u64>, BucketError> {
        let state = self.state().await?;
        if state.created != created || state.end < reached {
            return Ok(None);
        }
        if state.end == reached { Ok(Some(reached)) } else { self.last(keys).await.map(Some) }
    }

    /// The keys that match `keys`, those of removals included.
    ///
    /// # Errors
    /// If the leader does not answer.
    pub async fn keys(&self, keys: &str) -> Result<HashSet<String>, BucketError> {
        let pages = self.stream.info_with_subjects(self.subject(keys)).await.map_err(BucketError::Info)?;
        pages.map_ok(|(subject, _)| self.key(&subject).to_owned()).try_collect().await.map_err(BucketError::Info)
    }

    /// The stream of the bucket.
    #[must_use]
    pub fn stream(&self) -> &Stream<()> {
        &self.stream
    }

    /// The subject of a key.
    #[must_use]
    pub fn subject(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The key of a subject.
    #[must_use]
    pub fn key<'a>(&self, subject: &'a str) -> &'a str {
        subject.strip_prefix(&self.prefix).unwrap_or(subject)
    }
}
