//! The key `<uid>.base`. It is changed by compare-and-set only, as several operators may change it.

use hookwright_core::delivery::health::BaseCounts;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{HEALTH_BUCKET, health_base_key};
use hookwright_core::record::{self, RecordError};
use tracing::warn;

use crate::nats::jetstream::{JetStream, JsError};

/// How often a change is tried when other operators change the base as well.
const TRIES: usize = 5;

/// The base can't be changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BaseError {
    #[error("can't read or write the health bucket")]
    Nats(#[from] JsError),
    #[error("the base can't be read or written")]
    Record(#[from] RecordError),
    #[error("other operators keep changing the base")]
    Contended,
}

/// Applies `change` to the base, and stores the base if `change` returns true.
pub(super) async fn change(
    js: &JetStream,
    uid: &SubscriptionUid,
    mut change: impl FnMut(&mut BaseCounts) -> bool,
) -> Result<(), BaseError> {
    for _ in 0..TRIES {
        let (mut base, revision) = read(js, uid).await?;
        if !change(&mut base) || write(js, uid, &base, revision).await? {
            return Ok(());
        }
    }
    Err(BaseError::Contended)
}

/// Applies `change` if the base is at this revision, which is 0 if there is none, and stores it. Returns false if the
/// base was at another revision.
pub(super) async fn change_at(
    js: &JetStream,
    uid: &SubscriptionUid,
    revision: u64,
    change: impl FnOnce(&mut BaseCounts),
) -> Result<bool, BaseError> {
    let (mut base, found) = read(js, uid).await?;
    if found != revision {
        return Ok(false);
    }
    change(&mut base);
    write(js, uid, &base, revision).await
}

async fn read(js: &JetStream, uid: &SubscriptionUid) -> Result<(BaseCounts, u64), BaseError> {
    let Some(entry) = js.get(HEALTH_BUCKET, &health_base_key(uid)).await? else {
        return Ok((BaseCounts::default(), 0));
    };
    match record::decode(&entry.value) {
        Ok(base) => Ok((base, entry.revision)),
        // What was in it is lost, and nobody could ever add to it.
        Err(RecordError::NoRecord(why)) => {
            warn!(subscription_uid = %uid, why, "the counts of dispatchers that have gone are no record; they begin anew");
            Ok((BaseCounts::default(), entry.revision))
        }
        Err(newer) => Err(newer.into()),
    }
}

/// Stores the base if it is at this revision. Returns whether it was.
async fn write(js: &JetStream, uid: &SubscriptionUid, base: &BaseCounts, revision: u64) -> Result<bool, BaseError> {
    let stored = js.put_at(HEALTH_BUCKET, &health_base_key(uid), record::encode(base)?, revision).await?;
    Ok(stored.is_some())
}
