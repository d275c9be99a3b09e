//! Writing status: server-side apply of what one writer owns, under a field manager of its own.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// The field manager of what the reconcilers write.
pub(crate) const RECONCILER: &str = "hookwright-operator";
/// The field manager of what the dispatchers counted.
pub(crate) const HEALTH: &str = "hookwright-health";

/// A status can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write the status as {manager}")]
pub(crate) struct StatusError {
    manager: &'static str,
    source: kube::Error,
}

impl StatusError {
    /// Whether the object has gone, or is another one of the same name.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(&self.source, kube::Error::Api(status) if status.is_not_found() || status.is_conflict())
    }
}

/// Writes the fields that `manager` owns in the status of `object`. The uid goes along: a newer object of the same name
/// is not written to.
pub(crate) async fn write_status<K>(
    api: &Api<K>,
    object: &K,
    manager: &'static str,
    status: &impl Serialize,
) -> Result<K, StatusError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": object.name_any(), "uid": object.uid() },
        "status": status,
    });
    let parameters = PatchParams::apply(manager).force();
    let answer = api.patch_status(&object.name_any(), &parameters, &Patch::Apply(&body)).await;
    answer.map_err(|source| StatusError { manager, source })
}
