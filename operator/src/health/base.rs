//! The key `<uid>.base`, changed by compare-and-set only: several operators may be at it.

use hookwright_core::delivery::health::BaseCounts;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{HEALTH_BUCKET, health_base_key};
use hookwright_core::record::{self, RecordError};

use crate::nats::jetstream::{JetStream, JsError};

/// How often a change is tried against others'.
const TRIES: usize = 5;

/// The base can't be changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BaseError {
    #[error("the health bucket can't be reached")]
    Nats(#[from] JsError),
    #[error("the base can't be read or written")]
    Record(#[from] RecordError),
    #[error("others keep changing the base")]
    Contended,
}

/// Lets `change` change the base, and stores it if it says that it did.
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

/// Lets `change` change the base if it is at this revision, 0 for none, and nobody else changes it meanwhile. Returns
/// whether that was so.
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
    Ok(match js.get(HEALTH_BUCKET, &health_base_key(uid)).await? {
        Some(entry) => (record::decode(&entry.value)?, entry.revision),
        None => (BaseCounts::default(), 0),
    })
}

/// Returns whether the base was at this revision.
async fn write(js: &JetStream, uid: &SubscriptionUid, base: &BaseCounts, revision: u64) -> Result<bool, BaseError> {
    let stored = js.put_at(HEALTH_BUCKET, &health_base_key(uid), record::encode(base)?, revision).await?;
    Ok(stored.is_some())
}
