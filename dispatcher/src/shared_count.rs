//! Counts in the state bucket to which all dispatchers add, by compare-and-set.

use hookwright_core::nats::names::STATE_BUCKET;
use hookwright_core::record::{RecordError, decode, encode};
use hookwright_runtime::bucket::{Bucket, BucketError};
use hookwright_runtime::nats::Nats;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

/// Why a count was not added to. It is added to the next time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountError {
    #[error("can't read or write the state bucket")]
    Bucket(#[from] BucketError),
    #[error("can't decode or encode the count")]
    Record(#[from] RecordError),
    #[error("another dispatcher wrote first")]
    Raced,
}

/// Changes the count under this key, and returns what it is then. It fails if another dispatcher writes first. What is no
/// record is counted anew: nobody could ever go on from it.
pub(crate) async fn change<T>(nats: &Nats, key: &str, change: impl FnOnce(&mut T)) -> Result<T, CountError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let bucket = Bucket::named(nats, STATE_BUCKET).await?;
    let newest = bucket.newest(key).await?;
    let mut count = match newest.value.as_deref().map(decode).transpose() {
        Ok(count) => count.unwrap_or_default(),
        Err(RecordError::NoRecord(why)) => {
            warn!(key, why, "a count is no record; it begins anew");
            T::default()
        }
        Err(newer) => return Err(newer.into()),
    };
    change(&mut count);
    bucket.put_at(key, encode(&count)?.into(), newest.revision).await?.ok_or(CountError::Raced)?;
    Ok(count)
}
