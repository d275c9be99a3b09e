//! Writes and removes records by compare-and-set, and never in place of a newer one.
//!
//! An operator that is on its way out may still work on an object as it was before the last edit, while the next
//! operator has written the record of the edit already. So the API server is asked before each write whether the object is
//! still the same. In place of another operator's record one is written only if what it was made from is the same, too
//! ([`Fences`] says when that has to be asked). What only takes something away is made from nothing else. And a write that
//! comes after another operator's is not repeated: what the record was made from may be out of date.

use std::fmt::Debug;

use hookwright_core::nats::names::CONFIG_BUCKET;
use hookwright_core::record::{self, Feature, Record};
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::cache::fences::Fences;
use crate::cache::leases::Leases;
use crate::lenient::Metadata;
use crate::nats::jetstream::JetStream;
use crate::nats::kv::Written;
use crate::reconcile::error::ReconcileError;

/// What records are made from besides their object, and what may change without the object's generation.
pub(crate) trait Inputs {
    /// Returns whether all of it is still as it was used, by reads that began at this time or later.
    fn are_current(&self, since: Instant) -> impl Future<Output = Result<bool, ReconcileError>> + Send;

    /// Returns whether they are all that the next record may be made from. If not, the record that is made from them counts
    /// as another operator's.
    fn are_all(&self) -> bool {
        true
    }
}

/// Nothing besides the object.
impl Inputs for () {
    async fn are_current(&self, _: Instant) -> Result<bool, ReconcileError> {
        Ok(true)
    }
}

/// Nothing besides the object and the record in place, from which something is only taken away. What is left may follow
/// from something newer than what this operator knows.
pub(crate) struct InPlace;

impl Inputs for InPlace {
    async fn are_current(&self, _: Instant) -> Result<bool, ReconcileError> {
        Ok(true)
    }

    fn are_all(&self) -> bool {
        false
    }
}

/// The records of one object, which is one of the three kinds.
pub(crate) struct Records<'a, K, I = ()> {
    pub(crate) object: &'a K,
    pub(crate) inputs: I,
    pub(crate) js: &'a JetStream,
    pub(crate) client: &'a Client,
    pub(crate) leases: &'a Leases,
    pub(crate) fences: &'a Fences,
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

impl<'a, K> Records<'a, K> {
    /// The same records, made from more than the object.
    pub(crate) fn made_from<I>(self, inputs: I) -> Records<'a, K, I> {
        let Self { object, js, client, leases, fences, .. } = self;
        Records { object, inputs, js, client, leases, fences }
    }
}

impl<K, I: Inputs> Records<'_, K, I>
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
        self.follows(key, found.revision).await?;
        let written = self.js.put_at(CONFIG_BUCKET, key, json, found.revision).await?;
        let revision = written.ok_or(ReconcileError::Outdated)?;
        if self.inputs.are_all() {
            self.fences.wrote(&self.uid(), key, revision);
        }
        Ok(Written { revision, waits: None, fresh })
    }

    /// Removes the record, if there is one.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), ReconcileError> {
        let Some(entry) = self.js.get(CONFIG_BUCKET, key).await? else { return Ok(()) };
        self.guard(Some(&entry.value)).await?;
        self.follows(key, entry.revision).await?;
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

    /// Fails if the record at this revision may have been made from something newer than what this one is made from.
    async fn follows(&self, key: &str, revision: u64) -> Result<(), ReconcileError> {
        match self.fences.since(&self.uid(), key, revision) {
            Some(since) if !self.inputs.are_current(since).await? => Err(ReconcileError::Outdated),
            _ => Ok(()),
        }
    }

    fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }

    /// Fails unless the API server has the object in the same generation, with the same annotations, and it is not about to
    /// be deleted.
    pub(crate) async fn current(&self) -> Result<(), ReconcileError> {
        let ours = self.object.meta();
        let api: Api<Metadata<K>> = Api::namespaced(self.client.clone(), &self.object.namespace().unwrap_or_default());
        let now = api.get_opt(&self.object.name_any()).await.map_err(|error| ReconcileError::Read(error.into()))?;
        let is_current = now.map(|now| now.meta).is_some_and(|now| {
            now.uid == ours.uid
                && now.generation == ours.generation
                && now.annotations == ours.annotations
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
