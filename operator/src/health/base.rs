//! The key `<uid>.base`, changed by compare-and-set only: several operators may be at it.

use hookwright_core::health::BaseCounts;
use hookwright_core::ids::SubscriptionUid;
use hookwright_core::names::{HEALTH_BUCKET, health_base_key};
use hookwright_core::record::{self, RecordError};

use crate::jetstream::{JetStream, JsError};

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
    let key = health_base_key(uid);
    for _ in 0..TRIES {
        let (mut base, revision) = match js.get(HEALTH_BUCKET, &key).await? {
            Some(entry) => (record::decode(&entry.value)?, entry.revision),
            None => (BaseCounts::default(), 0),
        };
        if !change(&mut base) || js.put_at(HEALTH_BUCKET, &key, record::encode(&base)?, revision).await?.is_some() {
            return Ok(());
        }
    }
    Err(BaseError::Contended)
}
