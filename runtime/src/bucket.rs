//! What the leader of a KV bucket has. A replica answers reads and feeds consumers, too, but it may lag behind the
//! leader. So whatever decides something by the absence of a record asks the leader.

use std::collections::HashSet;

use async_nats::jetstream::context::GetStreamError;
use async_nats::jetstream::stream::{InfoError, LastRawMessageError, LastRawMessageErrorKind, Stream};
use futures::TryStreamExt;
use jiff::Timestamp;

use crate::nats::Nats;

/// The leader of a bucket did not answer.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    #[error("a bucket can't have this name")]
    Name(#[source] GetStreamError),
    #[error("can't read how far the bucket goes")]
    Last(#[source] LastRawMessageError),
    #[error("can't read the state and the keys of the bucket")]
    Info(#[source] InfoError),
}

/// A bucket, of which the leader is asked.
#[derive(Debug, Clone)]
pub struct Bucket {
    stream: Stream<()>,
    prefix: String,
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
    /// The bucket of this name. Nothing is asked yet.
    ///
    /// # Errors
    /// If a bucket can't have this name.
    pub async fn named(nats: &Nats, name: &str) -> Result<Self, BucketError> {
        let stream = nats.jetstream.get_stream_no_info(format!("KV_{name}")).await.map_err(BucketError::Name)?;
        Ok(Self { stream, prefix: format!("$KV.{name}.") })
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
