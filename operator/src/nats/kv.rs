//! KV buckets. They are read from their leader: the operator compares what is there with what should be, and a
//! follower's answer may be old.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use bytes::Bytes;
use futures::TryStreamExt;
use serde::Deserialize;
use serde_json::json;

use crate::nats::jetstream::{JetStream, JsError, JsResult, found};

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

/// A record that is in its bucket.
pub(crate) struct Written {
    pub(crate) revision: u64,
    /// Whether there was no record before. Then no dispatcher can have loaded it, whatever an old status says.
    pub(crate) fresh: bool,
}

/// The header that makes a publish conditional on the subject's last sequence, which is the key's revision.
pub(crate) const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

fn removal() -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("KV-Operation", "PURGE");
    headers.insert("Nats-Rollup", "sub");
    headers
}

/// Returns none if the last sequence was not the expected one.
pub(crate) fn if_expected(stored: JsResult<u64>) -> JsResult<Option<u64>> {
    match stored {
        Ok(revision) => Ok(Some(revision)),
        Err(JsError::NotStored { source, .. }) if source.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
        Err(error) => Err(error),
    }
}

fn subject(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

impl JetStream {
    pub(crate) async fn get(&self, bucket: &str, key: &str) -> JsResult<Option<Entry>> {
        let what = format!("STREAM.MSG.GET.KV_{bucket}");
        let request = json!({ "last_by_subj": subject(bucket, key) });
        let Some(Stored { message }) = found(self.ask(what.clone(), &request).await, ErrorCode::NO_MESSAGE_FOUND)?
        else {
            return Ok(None);
        };
        let message = StreamMessage::try_from(message).map_err(|source| JsError::Reply { what, source })?;
        let removed = message.headers.get("KV-Operation").is_some();
        Ok((!removed).then_some(Entry { value: message.payload, revision: message.sequence }))
    }

    /// Writes a value and returns its revision.
    pub(crate) async fn put(&self, bucket: &str, key: &str, value: Vec<u8>) -> JsResult<u64> {
        self.publish(subject(bucket, key), async_nats::HeaderMap::new(), value.into()).await
    }

    /// Writes a value if the key is still at this revision, which is 0 for a key that never had a value. Returns the
    /// new revision, or none if the key was at another revision.
    pub(crate) async fn put_at(&self, bucket: &str, key: &str, value: Vec<u8>, revision: u64) -> JsResult<Option<u64>> {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(EXPECTED, revision.to_string());
        if_expected(self.publish(subject(bucket, key), headers, value.into()).await)
    }

    /// Removes a key. Mirrors see the removal.
    pub(crate) async fn remove(&self, bucket: &str, key: &str) -> JsResult<()> {
        self.publish(subject(bucket, key), removal(), Bytes::new()).await.map(drop)
    }

    /// Removes a key if it is still at this revision. Returns whether it was.
    pub(crate) async fn remove_at(&self, bucket: &str, key: &str, revision: u64) -> JsResult<bool> {
        let mut headers = removal();
        headers.insert(EXPECTED, revision.to_string());
        Ok(if_expected(self.publish(subject(bucket, key), headers, Bytes::new()).await)?.is_some())
    }

    /// Removes each key that matches `filter`, where `*` is one token.
    pub(crate) async fn remove_matching(&self, bucket: &str, filter: &str) -> JsResult<()> {
        let prefix = subject(bucket, "");
        for subject in self.subjects(&format!("KV_{bucket}"), &format!("{prefix}{filter}")).await? {
            if let Some(key) = subject.strip_prefix(&prefix) {
                self.remove(bucket, key).await?;
            }
        }
        Ok(())
    }

    /// Returns all keys that have a value.
    pub(crate) async fn keys(&self, bucket: &str) -> JsResult<Vec<String>> {
        let failed = |source| JsError::Keys { what: bucket.to_owned(), source };
        let store = self.nats()?.jetstream.get_key_value(bucket).await.map_err(|e| failed(e.into()))?;
        let keys = store.keys().await.map_err(|e| failed(e.into()))?;
        keys.try_collect().await.map_err(|e| failed(e.into()))
    }
}
