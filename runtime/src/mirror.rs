//! A mirror of a KV bucket: it reports all keys first, then each change, for as long as the process lives.
//!
//! After each reconnect the mirror starts again with a full snapshot, and reports the keys that have vanished
//! meanwhile. It has to, because a bucket in memory is a new one after a restart of the server, and counts its
//! revisions from 1 again.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy, push};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures::StreamExt;
use tracing::warn;

use crate::nats::Nats;

/// A change that a mirror reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key has this value, which was written at this revision.
    Put { key: String, value: Bytes, revision: u64 },
    /// A key was deleted.
    Delete { key: String },
    /// A key is no longer in the bucket: it was removed while the mirror didn't watch, or the bucket is a new one.
    Vanished { key: String },
    /// Everything up to this revision has been reported. It follows the snapshot, and then each change.
    Loaded { revision: u64 },
}

/// Why a watch ended. The mirror then starts again.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("the bucket can't be found")]
    Bucket(#[source] async_nats::jetstream::context::GetStreamError),
    #[error("the state of the bucket can't be read")]
    Info(#[source] async_nats::jetstream::context::RequestError),
    #[error("a consumer on the bucket can't be created")]
    Consumer(#[source] async_nats::jetstream::stream::ConsumerError),
    #[error("the consumer of the bucket can't be read")]
    Messages(#[source] async_nats::jetstream::consumer::StreamError),
    #[error("the watch broke")]
    Broken(#[source] async_nats::jetstream::consumer::push::OrderedError),
    #[error("a message of the bucket has no metadata")]
    Metadata(#[source] async_nats::Error),
    #[error("the watch ended")]
    Ended,
}

/// A mirror of the keys of one bucket.
pub struct Mirror {
    nats: Nats,
    bucket: &'static str,
    keys: &'static str,
    known: HashSet<String>,
}

impl Mirror {
    /// Makes a mirror of all keys in `bucket` that match `keys` (`>` for all).
    #[must_use]
    pub fn new(nats: Nats, bucket: &'static str, keys: &'static str) -> Self {
        Self { nats, bucket, keys, known: HashSet::new() }
    }

    /// Reports each change to `apply`. It never returns: if the watch breaks, it starts again.
    pub async fn run(mut self, mut apply: impl FnMut(Change)) -> Infallible {
        let mut failures = 0u32;
        loop {
            let mut connected = self.nats.connected.clone();
            connected.mark_unchanged();
            let again = tokio::select! {
                result = self.watch(&mut apply) => Some(result),
                _ = connected.changed() => None,
            };
            match again {
                None | Some(Ok(())) => failures = 0,
                Some(Err(error)) => {
                    failures += 1;
                    if failures > 3 {
                        warn!(bucket = self.bucket, error = crate::logging::chain(&error), "mirror starts again");
                    }
                    tokio::time::sleep(Duration::from_millis(100 << failures.min(4))).await;
                }
            }
        }
    }

    async fn watch(&mut self, apply: &mut impl FnMut(Change)) -> Result<(), WatchError> {
        let name = format!("KV_{}", self.bucket);
        let stream = self.nats.jetstream.get_stream(name).await.map_err(WatchError::Bucket)?;
        let prefix = format!("$KV.{}.", self.bucket);
        let behind = stream.get_info().await.map_err(WatchError::Info)?.state.last_sequence;
        let consumer = self.consumer(&stream, &prefix).await?;
        let mut snapshot = Some(HashSet::new());
        if consumer.cached_info().num_pending == 0 {
            self.finish_snapshot(snapshot.take(), behind, apply);
        }
        let mut messages = consumer.messages().await.map_err(WatchError::Messages)?;
        while let Some(message) = messages.next().await {
            let message = message.map_err(WatchError::Broken)?;
            let info = message.info().map_err(WatchError::Metadata)?;
            let (revision, pending) = (info.stream_sequence, info.pending);
            let key = message.subject.strip_prefix(&prefix).unwrap_or(&message.subject).to_owned();
            if is_removal(&message) {
                self.known.remove(&key);
                apply(Change::Delete { key });
            } else {
                self.known.insert(key.clone());
                if let Some(seen) = &mut snapshot {
                    seen.insert(key.clone());
                }
                apply(Change::Put { key, value: message.payload.clone(), revision });
            }
            match snapshot.take() {
                Some(seen) if pending > 0 => snapshot = Some(seen),
                Some(seen) => self.finish_snapshot(Some(seen), behind.max(revision), apply),
                None => apply(Change::Loaded { revision }),
            }
        }
        Err(WatchError::Ended)
    }

    async fn consumer(
        &self,
        stream: &Stream,
        prefix: &str,
    ) -> Result<async_nats::jetstream::consumer::Consumer<push::OrderedConfig>, WatchError> {
        let config = push::OrderedConfig {
            deliver_subject: self.nats.client.new_inbox(),
            filter_subject: format!("{prefix}{}", self.keys),
            replay_policy: ReplayPolicy::Instant,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..Default::default()
        };
        stream.create_consumer(config).await.map_err(WatchError::Consumer)
    }

    fn finish_snapshot(&mut self, seen: Option<HashSet<String>>, revision: u64, apply: &mut impl FnMut(Change)) {
        let seen = seen.unwrap_or_default();
        for key in self.known.extract_if(|key| !seen.contains(key)) {
            apply(Change::Vanished { key });
        }
        apply(Change::Loaded { revision });
    }
}

fn is_removal(message: &async_nats::Message) -> bool {
    let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name));
    header("KV-Operation").is_some_and(|op| matches!(op.as_str(), "DEL" | "PURGE"))
        || header("Nats-Marker-Reason").is_some()
}
