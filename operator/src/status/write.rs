//! Writes status: server-side apply of what one writer owns, under a field manager of its own.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::runtime::events::Recorder;
use kube::{Api, Client, Resource, ResourceExt};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cache::kind::Kind;
use crate::kubernetes::RECONCILER;
use crate::kubernetes::answer::{ApiError, Meaning};
use crate::lenient::Lenient;
use crate::metrics::StatusWrite;
use crate::status::budget::StatusBudget;
use crate::status::events;

/// The field manager of what the dispatchers counted.
pub(crate) const HEALTH: &str = "hookwright-health";

/// A status can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write the status as {manager}")]
pub(crate) struct StatusError {
    manager: &'static str,
    source: ApiError,
}

impl StatusError {
    /// Returns the answer of the API server.
    pub(crate) fn api(&self) -> &ApiError {
        &self.source
    }

    /// Returns whether the object has changed since it was read, or another object has its name.
    pub(crate) fn is_outdated(&self) -> bool {
        self.source.meaning() == Meaning::Changed
    }
}

/// An object whose status a reconciler writes: one of the three kinds.
pub(crate) trait ReconciledObject:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasStatus<Status: Clone + Default + Serialize>
    + Clone
    + DeserializeOwned
    + Debug
    + 'static
{
    /// Returns the part of a status that the reconciler writes, in a form that can be compared: the API server chooses
    /// the order of lists, so they are sorted.
    fn reconciled(status: &Self::Status) -> impl PartialEq;

    /// Returns the conditions of a status.
    fn conditions(status: &Self::Status) -> &[Condition];
}

/// Returns the conditions in an order that does not depend on the API server.
pub(crate) fn sorted(conditions: Option<&[Condition]>) -> Vec<Condition> {
    let mut conditions = conditions.unwrap_or_default().to_vec();
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    conditions
}

/// Writes status, counts the writes, and emits the Events that belong to them.
pub(crate) struct StatusWriter {
    client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) budget: StatusBudget,
    writes: Family<StatusWrite, Counter>,
}

impl StatusWriter {
    pub(crate) fn new(client: Client, recorder: Recorder, writes: Family<StatusWrite, Counter>) -> Self {
        Self { client, recorder, budget: StatusBudget::default(), writes }
    }

    /// Writes the reconciler's part of the status if it differs from what the object has and the budget allows it.
    /// Returns whether the status was written.
    pub(crate) async fn write_if_changed<K: ReconciledObject>(
        &self,
        kind: &Kind<K>,
        object: &K,
        new: &K::Status,
        allow: impl FnOnce(&StatusBudget) -> bool,
    ) -> Result<bool, StatusError> {
        let old = object.status().cloned().unwrap_or_default();
        if K::reconciled(&old) == K::reconciled(new) || !allow(&self.budget) {
            return Ok(false);
        }
        if !self.write(kind, object, RECONCILER, new).await? {
            return Ok(false);
        }
        self.emit(object, K::conditions(&old), K::conditions(new)).await;
        Ok(true)
    }

    /// Writes the fields that `manager` owns. Returns false if the object has gone. Uid and resource version go along, so
    /// that neither a newer object of the same name is written to, nor what another operator has written meanwhile.
    pub(crate) async fn write<K: ReconciledObject>(
        &self,
        kind: &Kind<K>,
        object: &K,
        manager: &'static str,
        status: &K::Status,
    ) -> Result<bool, StatusError> {
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {
                "name": object.name_any(),
                "uid": object.uid(),
                "resourceVersion": object.resource_version(),
            },
            "status": status,
        });
        let api: Api<Lenient<K>> = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let parameters = PatchParams::apply(manager).force();
        let answer = api.patch_status(&object.name_any(), &parameters, &Patch::Apply(&body)).await;
        match answer.map_err(ApiError::from) {
            Ok(answer) => answer.object.into_iter().for_each(|answer| kind.own_writes.remember(answer)),
            Err(error) if error.meaning() == Meaning::Gone => return Ok(false),
            Err(source) => return Err(StatusError { manager, source }),
        }
        self.writes.get_or_create(&StatusWrite { kind: K::kind(&()).into_owned() }).inc();
        Ok(true)
    }

    /// Emits the Events that a change of the conditions is worth.
    pub(crate) async fn emit<K: ReconciledObject>(&self, object: &K, before: &[Condition], after: &[Condition]) {
        events::transitions(&self.recorder, object, before, after).await;
    }
}
