//! Writes and removes records by compare-and-set, and never in place of a newer one.
//!
//! An operator that is on its way out may still work on an object as it was before the last edit, while the next
//! operator has written the record of the edit already. So the API server is asked before each write whether the object is
//! still the same, and a write that comes after another operator's is not repeated: what the record was made from may be
//! out of date.

use std::fmt::Debug;

use hookwright_core::nats::names::CONFIG_BUCKET;
use hookwright_core::record::{self, Feature, Record};
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cache::leases::Leases;
use crate::lenient::Metadata;
use crate::nats::jetstream::JetStream;
use crate::nats::kv::Written;
use crate::reconcile::error::ReconcileError;

/// The records of one object, which is one of the three kinds.
pub(crate) struct Records<'a, K> {
    pub(crate) object: &'a K,
    pub(crate) js: &'a JetStream,
    pub(crate) client: &'a Client,
    pub(crate) leases: &'a Leases,
}

/// The generation of the object that a record was made from. A Subscription's record has it in a group.
#[derive(Deserialize)]
struct Generation {
    generation: Option<i64>,
    identity: Option<Identity>,
}

#[derive(Deserialize)]
struct Identity {
    generation: i64,
}

fn generation(record: &[u8]) -> Option<i64> {
    let found: Generation = serde_json::from_slice(record).ok()?;
    found.generation.or(found.identity.map(|identity| identity.generation))
}

/// Returns the features of a record that the one in place doesn't have. Who can't read the others serves nothing of the
/// Producer already.
fn new_features<R: Record>(record: &R, in_place: Option<&[u8]>) -> Vec<Feature> {
    let old = in_place.and_then(|json| record::decode::<R>(json).ok()).map(|old| old.features()).unwrap_or_default();
    record.features().into_iter().filter(|feature| !old.contains(feature)).collect()
}

impl<K> Records<'_, K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    /// Writes what `wanted` makes of the record that is there, unless it makes nothing of it, or a live dispatcher can't
    /// read what is new in it.
    pub(crate) async fn put<R: Record>(
        &self,
        key: &str,
        wanted: impl FnOnce(Option<&[u8]>) -> Result<Option<R>, ReconcileError>,
    ) -> Result<Written, ReconcileError> {
        let found = self.js.newest(CONFIG_BUCKET, key).await?;
        let fresh = found.value.is_none();
        let Some(record) = wanted(found.value.as_deref())? else {
            return Ok(Written { revision: found.revision, waits: None, fresh });
        };
        if let waits @ Some(_) = self.leases.unread(&new_features(&record, found.value.as_deref())) {
            return Ok(Written { revision: found.revision, waits, fresh });
        }
        let json = record::encode(&record)?;
        // Also if there is no record: there may have been one until the object was deleted or lost its rights.
        self.current().await?;
        let written = self.js.put_at(CONFIG_BUCKET, key, json, found.revision).await?;
        let revision = written.ok_or(ReconcileError::Outdated)?;
        Ok(Written { revision, waits: None, fresh })
    }

    /// Removes the record, if there is one.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), ReconcileError> {
        let Some(entry) = self.js.get(CONFIG_BUCKET, key).await? else { return Ok(()) };
        self.guard(Some(&entry.value)).await?;
        if self.js.remove_at(CONFIG_BUCKET, key, entry.revision).await? {
            Ok(())
        } else {
            Err(ReconcileError::Outdated)
        }
    }

    /// Fails if the record was made from a newer generation than the object's, and the API server knows that one.
    pub(crate) async fn guard(&self, record: Option<&[u8]>) -> Result<(), ReconcileError> {
        let ours = self.object.meta().generation.unwrap_or_default();
        if record.and_then(generation).is_none_or(|stored| stored <= ours) {
            return Ok(());
        }
        self.current().await
    }

    /// Fails unless the API server has the object in the same generation, and it is not about to be deleted.
    pub(crate) async fn current(&self) -> Result<(), ReconcileError> {
        let ours = self.object.meta();
        let api: Api<Metadata<K>> = Api::namespaced(self.client.clone(), &self.object.namespace().unwrap_or_default());
        let now = api.get_opt(&self.object.name_any()).await.map_err(ReconcileError::Read)?;
        let is_current = now.map(|now| now.meta).is_some_and(|now| {
            now.uid == ours.uid
                && now.generation == ours.generation
                && now.deletion_timestamp == ours.deletion_timestamp
        });
        if is_current { Ok(()) } else { Err(ReconcileError::Outdated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_generation_in_each_kind_of_record() {
        for (record, want) in [
            (r#"{ "version": 1, "uid": "p-1", "generation": 7 }"#, Some(7)),
            (r#"{ "version": 9, "identity": { "generation": 3, "name": "a" }, "later": true }"#, Some(3)),
            (r#"{ "version": 1 }"#, None),
            ("[]", None),
            ("not JSON", None),
        ] {
            assert_eq!(generation(record.as_bytes()), want, "{record}");
        }
    }
}
