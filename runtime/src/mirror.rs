//! A mirror of a KV bucket: it reports all keys first, then each change, for as long as the process lives.
//!
//! After each reconnect the mirror starts again with a full snapshot, and reports the keys that have vanished
//! meanwhile. It has to, because a bucket in memory is a new one after a restart of the server, and counts its
//! revisions from 1 again.
//!
//! The consumer that feeds the mirror is at some replica, which may lag behind the leader of the bucket. So three rules
//! hold. A snapshot ends only once the consumer has come to the last record that the leader has, and only what the
//! leader doesn't have has vanished. What the mirror has passed it does not go back to, unless the leader does: an older
//! record of a key is ignored, and if nothing newer follows in the snapshot, the leader is asked for the key. And a replica
//! that stays behind is left: the mirror asks the leader again and again how far it is.

mod lag;
mod passed;

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, DeliverPolicy, ReplayPolicy, push};
use async_nats::jetstream::{self, Message};
use bytes::Bytes;
use futures::StreamExt;
use hookwright_core::record::lease::BucketRevision;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::bucket::{Bucket, BucketError, Newest, State};
use crate::mirror::lag::{Lag, looks};
use crate::mirror::passed::{At, Passed};
use crate::nats::Nats;
use crate::panics;
use crate::removal::is_removal;

/// A change that a mirror reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key has this value, which was written at this revision.
    Put { key: String, value: Bytes, revision: u64 },
    /// A key was deleted.
    Delete { key: String },
    /// A key is no longer in the bucket: it was removed while the mirror didn't watch, or the bucket is a new one.
    Vanished { key: String },
    /// Everything up to this revision of the bucket has been reported. It follows the snapshot, and then each change.
    Loaded(BucketRevision),
    /// The mirror has fallen behind, or the bucket is a new one. What was reported may be out of date until the next
    /// [`Change::Loaded`].
    Behind,
}

/// Why a watch ended. The mirror then starts again.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("the leader of the bucket can't be asked")]
    Leader(#[source] BucketError),
    #[error("a consumer on the bucket can't be created")]
    Consumer(#[source] jetstream::stream::ConsumerError),
    #[error("the consumer of the bucket can't be read")]
    Messages(#[source] jetstream::consumer::StreamError),
    #[error("the watch broke")]
    Broken(#[source] push::OrderedError),
    #[error("a message of the bucket has no metadata")]
    Metadata(#[source] async_nats::Error),
    #[error("the replica that feeds the watch is behind the leader")]
    Behind,
    #[error("the bucket was replaced")]
    Replaced,
    #[error("the watch ended")]
    Ended,
}

/// A mirror of the keys of one bucket.
pub struct Mirror {
    nats: Nats,
    name: &'static str,
    keys: &'static str,
    passed: Passed,
}

impl Mirror {
    /// Makes a mirror of all keys in the bucket `name` that match `keys` (`>` for all).
    #[must_use]
    pub fn new(nats: Nats, name: &'static str, keys: &'static str) -> Self {
        Self { nats, name, keys, passed: Passed::default() }
    }

    /// Reports each change to `apply`. It never returns: if the watch breaks, it starts again. A change at which `apply`
    /// panics is passed over: a fault that one record brings out must not keep the others from being reported. What `apply`
    /// has changed must be whole after a panic.
    pub async fn run(mut self, mut apply: impl FnMut(Change)) -> Infallible {
        let (bucket, mut failures) = (self.name, 0u32);
        let mut apply = |change| apply_caught(bucket, change, &mut apply);
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
                    if matches!(error, WatchError::Behind | WatchError::Replaced) {
                        apply(Change::Behind);
                    }
                    failures += 1;
                    if failures > 3 {
                        warn!(bucket = self.name, error = crate::logging::chain(&error), "mirror starts again");
                    }
                    tokio::time::sleep(Duration::from_millis(100 << failures.min(4))).await;
                }
            }
        }
    }

    async fn watch(&mut self, apply: &mut impl FnMut(Change)) -> Result<(), WatchError> {
        let bucket = Bucket::named(&self.nats, self.name).await.map_err(WatchError::Leader)?;
        let State { created, end } = bucket.state().await.map_err(WatchError::Leader)?;
        if self.passed.enter(created, end) {
            apply(Change::Behind);
        }
        let mut lag = Lag::new(bucket.last(self.keys).await.map_err(WatchError::Leader)?, Instant::now());
        let consumer = self.consumer(&bucket).await?;
        let mut messages = consumer.messages().await.map_err(WatchError::Messages)?;
        let reached = Arc::new(AtomicU64::new(0));
        let mut looks = Box::pin(looks(&bucket, self.keys, created, Arc::clone(&reached)));
        let mut in_snapshot = true;
        loop {
            if in_snapshot && lag.has_caught_up() {
                in_snapshot = false;
                self.finish_snapshot(&bucket, created, lag.reached(), apply).await?;
            }
            let message = tokio::select! {
                message = messages.next() => message.ok_or(WatchError::Ended)?.map_err(WatchError::Broken)?,
                Some(last) = looks.next() => {
                    lag.leader_has(last.ok_or(WatchError::Replaced)?, Instant::now());
                    if lag.is_behind(Instant::now()) {
                        return Err(WatchError::Behind);
                    }
                    continue;
                }
            };
            let at = At::of(&message).map_err(WatchError::Metadata)?;
            self.report(bucket.key(&message.subject), &message, at, apply);
            lag.reaches(at, Instant::now());
            reached.store(at.revision, Ordering::Relaxed);
            if !in_snapshot {
                self.passed.pass(at);
                apply(Change::Loaded(BucketRevision { created, revision: at.revision }));
            }
        }
    }

    fn report(&mut self, key: &str, message: &Message, at: At, apply: &mut impl FnMut(Change)) {
        let is_removal = message.headers.as_ref().is_some_and(is_removal);
        if self.passed.ignores(key, at, is_removal) {
            return;
        }
        let key = key.to_owned();
        if is_removal {
            self.passed.known.remove(&key);
            apply(Change::Delete { key });
        } else {
            self.passed.known.insert(key.clone(), at.revision);
            apply(Change::Put { key, value: message.payload.clone(), revision: at.revision });
        }
    }

    async fn consumer(&self, bucket: &Bucket) -> Result<Consumer<push::OrderedConfig>, WatchError> {
        let config = push::OrderedConfig {
            deliver_subject: self.nats.client.new_inbox(),
            filter_subject: bucket.subject(self.keys),
            replay_policy: ReplayPolicy::Instant,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..Default::default()
        };
        bucket.stream().create_consumer(config).await.map_err(WatchError::Consumer)
    }

    /// Reports which keys the leader doesn't have, and that everything was reported up to where the consumer has come.
    async fn finish_snapshot(
        &mut self,
        bucket: &Bucket,
        created: Timestamp,
        reached: Option<At>,
        apply: &mut impl FnMut(Change),
    ) -> Result<(), WatchError> {
        let there = bucket.keys(self.keys).await.map_err(WatchError::Leader)?;
        let missing: Vec<String> = self.passed.known.keys().filter(|key| !there.contains(*key)).cloned().collect();
        for key in missing {
            // A list of many pages is not a view of one moment.
            if bucket.last(&key).await.map_err(WatchError::Leader)? == 0 {
                self.passed.known.remove(&key);
                apply(Change::Vanished { key });
            }
        }
        self.follow_leader(bucket, apply).await?;
        if let Some(at) = reached {
            self.passed.pass(at);
        }
        apply(Change::Loaded(BucketRevision { created, revision: reached.map_or(0, |at| at.revision) }));
        Ok(())
    }

    /// Asks the leader for the keys that the snapshot left at an older record. A bucket that has lost its end in a crash has
    /// gone back to it.
    async fn follow_leader(&mut self, bucket: &Bucket, apply: &mut impl FnMut(Change)) -> Result<(), WatchError> {
        let mut has_lost = false;
        for key in std::mem::take(&mut self.passed.doubtful) {
            let Newest { revision, value } = bucket.newest(&key).await.map_err(WatchError::Leader)?;
            if self.passed.known.get(&key).copied() == value.as_ref().map(|_| revision) {
                continue;
            }
            if !std::mem::replace(&mut has_lost, true) {
                // Older revisions count again.
                apply(Change::Behind);
            }
            if let Some(value) = value {
                self.passed.known.insert(key.clone(), revision);
                apply(Change::Put { key, value, revision });
            } else {
                self.passed.known.remove(&key);
                apply(Change::Vanished { key });
            }
        }
        Ok(())
    }
}

/// Reports a change. If that panics, tells of it.
fn apply_caught(bucket: &str, change: Change, apply: &mut impl FnMut(Change)) {
    let key = match &change {
        Change::Put { key, .. } | Change::Delete { key } | Change::Vanished { key } => key.clone(),
        Change::Loaded(_) | Change::Behind => String::new(),
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| apply(change))) {
        let panic = panics::message(&*panic).unwrap_or("no message");
        error!(bucket, key, panic, "a fault in Hookwright ended the work on this record; the work on others goes on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_at_which_the_work_panics_is_passed_over() {
        let mut done = Vec::new();
        let mut apply = |change: Change| match change {
            Change::Put { key, .. } if key == "bad" => panic!("no"),
            Change::Put { key, .. } => done.push(key),
            _ => {}
        };
        for key in ["a", "bad", "b"] {
            let (key, value) = (key.to_owned(), Bytes::new());
            apply_caught("HOOKWRIGHT_STATE", Change::Put { key, value, revision: 1 }, &mut apply);
        }
        assert_eq!(done, ["a", "b"]);
    }
}
