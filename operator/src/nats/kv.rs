//! KV buckets. They are read and listed by their leader: the operator compares what is there with what should be, and a
//! follower's answer may be old.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use bytes::Bytes;
use hookwright_runtime::removal::{is_removal, removal};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::cache::leases::Rollout;
use crate::nats::jetstream::{JetStream, JsError, JsResult, created, found};

#[derive(Deserialize)]
struct Stored {
    message: RawMessage,
}

/// A value and its revision.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) revision: u64,
}

/// The newest message of a key.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// The value; none if the key was removed, or never had one.
    pub(crate) value: Option<Bytes>,
    /// The message's revision; 0 if there is no message.
    pub(crate) revision: u64,
    /// When the message was stored.
    pub(crate) stored: Timestamp,
}

/// A record that is in its bucket.
pub(crate) struct Written {
    pub(crate) revision: u64,
    /// Why this is the former record, if there was one, and not the wanted one.
    pub(crate) waits: Option<Rollout>,
    /// Whether there was no record before. Then no dispatcher can have loaded it, whatever an old status says.
    pub(crate) fresh: bool,
}

impl JetStream {
    /// Returns the subject of a key in one of Hookwright's buckets.
    fn key(&self, bucket: &str, key: &str) -> JsResult<String> {
        Ok(format!("$KV.{}.{key}", self.names()?.stream(bucket)))
    }

    /// Returns the newest message of a key, or of all keys that match a filter such as `>`.
    pub(crate) async fn newest(&self, bucket: &str, key: &str) -> JsResult<Newest> {
        let what = format!("STREAM.MSG.GET.KV_{}", self.names()?.stream(bucket));
        let request = json!({ "last_by_subj": self.key(bucket, key)? });
        let Some(Stored { message }) = found(self.ask(what.clone(), &request).await, ErrorCode::NO_MESSAGE_FOUND)?
        else {
            return Ok(Newest::default());
        };
        let message = StreamMessage::try_from(message).map_err(|source| JsError::Reply { what, source })?;
        let removed = is_removal(&message.headers);
        Ok(Newest {
            value: (!removed).then_some(message.payload),
            revision: message.sequence,
            stored: Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).unwrap_or_default(),
        })
    }

    pub(crate) async fn get(&self, bucket: &str, key: &str) -> JsResult<Option<Entry>> {
        let Newest { value, revision, .. } = self.newest(bucket, key).await?;
        Ok(value.map(|value| Entry { value, revision }))
    }

    /// Writes a value and returns its revision.
    pub(crate) async fn put(&self, bucket: &str, key: &str, value: Vec<u8>) -> JsResult<u64> {
        self.publish(self.key(bucket, key)?, async_nats::HeaderMap::new(), value.into()).await
    }

    /// Writes a value if the key is still at this revision, which is 0 for a key without a message. Returns the new
    /// revision, or none if the key was at another revision.
    pub(crate) async fn put_at(&self, bucket: &str, key: &str, value: Vec<u8>, revision: u64) -> JsResult<Option<u64>> {
        self.publish_at(self.key(bucket, key)?, async_nats::HeaderMap::new(), value.into(), revision).await
    }

    /// Removes a key. Mirrors see the removal.
    pub(crate) async fn remove(&self, bucket: &str, key: &str) -> JsResult<()> {
        self.publish(self.key(bucket, key)?, removal(), Bytes::new()).await.map(drop)
    }

    /// Removes a key if it is still at this revision. Returns whether it was.
    pub(crate) async fn remove_at(&self, bucket: &str, key: &str, revision: u64) -> JsResult<bool> {
        Ok(self.publish_at(self.key(bucket, key)?, removal(), Bytes::new(), revision).await?.is_some())
    }

    /// Removes each key that matches `filter`, where `*` is one token.
    pub(crate) async fn remove_matching(&self, bucket: &str, filter: &str) -> JsResult<()> {
        for key in self.keys(bucket, filter).await? {
            if self.get(bucket, &key).await?.is_some() {
                self.remove(bucket, &key).await?;
            }
        }
        Ok(())
    }

    /// Returns when a bucket was created that is there now, or none if there is none.
    pub(crate) async fn bucket_created(&self, bucket: &str) -> JsResult<Option<Timestamp>> {
        let stream = format!("KV_{}", self.names()?.stream(bucket));
        Ok(self.stream(&stream).await?.map(|info| created(&info)))
    }

    /// Returns the keys that match `filter`, those whose removal is still marked included.
    pub(crate) async fn keys(&self, bucket: &str, filter: &str) -> JsResult<Vec<String>> {
        let prefix = self.key(bucket, "")?;
        let stream = format!("KV_{}", self.names()?.stream(bucket));
        let subjects = self.subjects(&stream, &format!("{prefix}{filter}")).await?;
        Ok(subjects.iter().filter_map(|subject| subject.strip_prefix(&prefix)).map(str::to_owned).collect())
    }
}
