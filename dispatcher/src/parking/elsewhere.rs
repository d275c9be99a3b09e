//! Reads how much of a Subscription other dispatchers have parked, from their counts in the health bucket.
//!
//! The counts come by direct gets, which any replica answers, also one that is behind. So the stream's leader is asked
//! first for the last of the counts, and an answer from before that is asked for again.

use std::collections::HashMap;
use std::time::Duration;

use hookwright_core::delivery::health::{BaseCounts, DeliveryCounts, Summary, Waiting};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{BASE, HEALTH_BUCKET, health_key, parse_health_key};
use hookwright_core::record::decode;
use hookwright_runtime::bucket::{Bucket, BucketError};
use hookwright_runtime::direct_get::{Answer, Batch, DirectGetError, server_header};
use hookwright_runtime::nats::Nats;
use serde_json::json;
use tokio::time::{sleep, timeout};

/// How long a look may take. It is long, because a look that fails lets more be parked than the quota.
const LOOK: Duration = Duration::from_secs(6);
/// How often a replica that is behind is asked, and the wait before it is asked again.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);
/// The status of an answer that would be too long: the server gives at most 1,024 messages at once.
const TOO_MANY: u16 = 413;
/// How many messages are asked for at once if there are too many.
const MOST: usize = 1_000;

/// Why it is not known what other dispatchers have parked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    #[error("can't ask the leader for the counts")]
    Leader(#[source] BucketError),
    #[error("can't read the counts")]
    Read(#[source] DirectGetError),
    #[error("the answer is incomplete")]
    Ended,
    #[error("the replica that answers is behind the leader")]
    Behind,
    #[error("no answer within {LOOK:?}")]
    Late,
}

/// The counts of one Subscription.
#[derive(Default)]
struct Counts {
    base: Option<BaseCounts>,
    dispatchers: HashMap<String, DeliveryCounts>,
}

/// Reads what other dispatchers have parked.
pub(crate) struct Elsewhere {
    nats: Nats,
    incarnation: String,
}

impl Elsewhere {
    /// `incarnation` is this dispatcher's.
    pub(crate) fn new(nats: Nats, incarnation: String) -> Self {
        Self { nats, incarnation }
    }

    /// How much of the Subscription is parked by the counts of all other dispatchers.
    pub(crate) async fn look(&self, uid: &SubscriptionUid) -> Result<Waiting, LookError> {
        timeout(LOOK, self.read(uid)).await.unwrap_or(Err(LookError::Late))
    }

    async fn read(&self, uid: &SubscriptionUid) -> Result<Waiting, LookError> {
        let bucket = Bucket::named(&self.nats, HEALTH_BUCKET).await.map_err(LookError::Leader)?;
        let keys = health_key(uid, "*");
        let last = bucket.last(&keys).await.map_err(LookError::Leader)?;
        let mut counts = Counts::default();
        match self.ask(&bucket, &[bucket.subject(&keys)], last, &mut counts).await {
            Err(LookError::Read(DirectGetError::Refused(status))) if status.as_u16() == TOO_MANY => {
                let keys = bucket.keys(&keys).await.map_err(LookError::Leader)?;
                let subjects: Vec<String> = keys.iter().map(|key| bucket.subject(key)).collect();
                for some in subjects.chunks(MOST) {
                    self.ask(&bucket, some, last, &mut counts).await?;
                }
            }
            answered => answered?,
        }
        // The dispatcher knows its own counts better. But the part of them that is in the base must not count as the
        // others'.
        counts.dispatchers.insert(self.incarnation.clone(), DeliveryCounts::default());
        Ok(Summary::waiting(counts.base.as_ref(), &counts.dispatchers))
    }

    /// Adds the counts under these subjects, as of sequence `last` or later.
    async fn ask(&self, bucket: &Bucket, subjects: &[String], last: u64, counts: &mut Counts) -> Result<(), LookError> {
        for _ in 0..TRIES {
            if self.ask_once(bucket, subjects, counts).await? >= last {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Err(LookError::Behind)
    }

    /// Adds the counts under these subjects by one replica. Returns the last sequence that it has, or 0 if it has none of
    /// the counts.
    async fn ask_once(&self, bucket: &Bucket, subjects: &[String], counts: &mut Counts) -> Result<u64, LookError> {
        let (stream, wanted) =
            (format!("KV_{}", self.nats.names.stream(HEALTH_BUCKET)), json!({ "multi_last": subjects }));
        let mut batch = Batch::ask(&self.nats, &stream, &wanted).await.map_err(LookError::Read)?;
        loop {
            match batch.next().await.map_err(LookError::Read)? {
                Answer::Message(message) => {
                    let key = server_header(&message, "Nats-Subject").map(|subject| bucket.key(subject));
                    if let Some((_, incarnation)) = key.and_then(parse_health_key) {
                        counts.add(incarnation, &message.payload);
                    }
                }
                Answer::NotFound => return Ok(0),
                Answer::End(end) => {
                    let up_to = server_header(&end, "Nats-UpTo-Sequence").and_then(|sequence| sequence.parse().ok());
                    return up_to.ok_or(LookError::Ended);
                }
            }
        }
    }
}

impl Counts {
    /// Takes the newest value of a key. One that can't be read counts for nothing, and the operator says so: without the
    /// others' counts, more would be parked than the quota.
    fn add(&mut self, incarnation: &str, value: &[u8]) {
        // A removed key leaves an empty message.
        let removed = value.is_empty();
        match incarnation {
            BASE if removed => self.base = None,
            BASE => self.base = decode(value).ok(),
            gone if removed => drop(self.dispatchers.remove(gone)),
            other => drop(self.dispatchers.insert(other.to_owned(), decode(value).unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use hookwright_core::delivery::health::Tally;
    use hookwright_core::record::encode;

    use super::*;

    #[test]
    fn a_count_that_can_not_be_read_hides_no_other() {
        let tally = Tally { retrying: 7, ..Tally::default() };
        let parked = encode(&DeliveryCounts { version: 1, tally, ..DeliveryCounts::default() }).unwrap();
        let mut counts = Counts::default();
        for (incarnation, value) in [("a", &parked[..]), ("b", b"hostile"), (BASE, b"[[["), ("c", &parked), ("c", b"")]
        {
            counts.add(incarnation, value);
        }
        assert_eq!(Summary::waiting(counts.base.as_ref(), &counts.dispatchers).deliveries, 7);
    }
}
