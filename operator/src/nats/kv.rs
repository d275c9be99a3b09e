//! KV buckets. They are read and listed by their leader: the operator compares what is there with what should be, and a
//! follower's answer may be old.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hookwright_runtime::removal::{is_removal, removal};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::cache::leases::Rollout;
use crate::faults;
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

/// Whether a message removes its key. Headers that can't be read say nothing: then the value is one that was written.
fn removes(message: RawMessage) -> bool {
    // The client library panics at some headers.
    let read = faults::one_at_once(message.sequence, || StreamMessage::try_from(message));
    read.is_some_and(|read| read.is_ok_and(|message| is_removal(&message.headers)))
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
        let Some(Stored { mut message }) = found(self.ask(what.clone(), &request).await, ErrorCode::NO_MESSAGE_FOUND)?
        else {
            return Ok(Newest::default());
        };
        let payload = BASE64_STANDARD.decode(std::mem::take(&mut message.payload));
        let payload = payload.map_err(|source| JsError::Reply { what, source: source.into() })?;
        let revision = message.sequence;
        let stored = Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).unwrap_or_default();
        Ok(Newest { value: (!removes(message)).then(|| payload.into()), revision, stored })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_can_not_be_read_remove_nothing() {
        let removes = |headers: Option<&[u8]>| {
            let headers = headers.map(|block| BASE64_STANDARD.encode(block));
            let message = json!({ "subject": "k", "seq": 7, "hdrs": headers, "time": "2026-01-01T00:00:00Z" });
            removes(serde_json::from_value(message).unwrap())
        };
        let block = |text: &'static [u8]| Some(text);
        for (headers, want) in [
            (None, false),
            (block(b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n"), true),
            (block(b"NATS/1.0\r\nKV-Operation: PUT\r\n\r\n"), false),
            (block(b"NATS/1.0\r\nKV-Operation: \xff\r\n\r\n"), false),
            (block(b"NATS/1.0\r\nbad name: 1\r\n\r\n"), false),
            (block(b"hostile"), false),
            (block(b""), false),
        ] {
            assert_eq!(removes(headers), want, "{:?}", headers.map(String::from_utf8_lossy));
        }
    }
}
