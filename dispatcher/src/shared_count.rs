//! Counts in the state bucket to which all dispatchers add, by compare-and-set.

use async_nats::jetstream::{context, kv};
use hookwright_core::nats::names::STATE_BUCKET;
use hookwright_core::record::{RecordError, decode, encode};
use hookwright_runtime::nats::Nats;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a count was not added to. It is added to the next time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountError {
    #[error("can't find the state bucket")]
    Bucket(#[source] context::KeyValueError),
    #[error("can't read the count")]
    Read(#[source] kv::EntryError),
    #[error("can't decode or encode the count")]
    Record(#[from] RecordError),
    #[error("NATS did not store the count")]
    Write(#[source] kv::UpdateError),
}

/// Changes the count under this key, and returns what it is then. It fails if another dispatcher writes first.
pub(crate) async fn change<T>(nats: &Nats, key: &str, change: impl FnOnce(&mut T)) -> Result<T, CountError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let bucket = nats.jetstream.get_key_value(STATE_BUCKET).await.map_err(CountError::Bucket)?;
    let entry = bucket.entry(key).await.map_err(CountError::Read)?;
    let revision = entry.as_ref().map_or(0, |entry| entry.revision);
    let mut count = match entry.filter(|entry| entry.operation == kv::Operation::Put) {
        Some(entry) => decode(&entry.value)?,
        None => T::default(),
    };
    change(&mut count);
    bucket.update(key, encode(&count)?.into(), revision).await.map_err(CountError::Write)?;
    Ok(count)
}
