//! The versions of what a Subscription's record is made from besides the Subscription: the Producer, the labels of the
//! namespace and a Service. None of them changes the Subscription's generation.

use hookwright_crds::Subscription;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::cache::references::{RefersToProducer, is_foreign};
use crate::context::Context;

/// The versions of all but the Secrets, as the watches had brought them when a reconcile began. What it then used is no
/// older.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    pub(super) producer: String,
    /// None if the labels of the namespace don't matter.
    pub(super) namespace: Option<String>,
    /// None if the endpoint is no Service.
    pub(super) service: Option<String>,
}

impl Versions {
    pub(super) async fn now(subscription: &Subscription, ctx: &Context) -> Self {
        ctx.producers.listed.wait().await;
        let producer = ctx.producers.store.get(&subscription.producer_ref());
        let has_policies = producer.as_ref().is_some_and(|producer| producer.spec.payload_policies.is_some());
        let of = subscription.namespace().unwrap_or_default();
        let namespace = if has_policies || is_foreign(subscription) {
            Some(of_metadata(ctx.namespaces.find(&of).await.as_deref().map(Resource::meta)))
        } else {
            None
        };
        let service = match &subscription.spec.endpoint.service_ref {
            Some(reference) => {
                Some(of_metadata(ctx.services.find(&of, reference).await.as_deref().map(Resource::meta)))
            }
            None => None,
        };
        Self { producer: of_spec(producer.as_deref().map(Resource::meta)), namespace, service }
    }
}

/// The version of an object's spec. The operator itself changes the other fields again and again.
pub(super) fn of_spec(meta: Option<&ObjectMeta>) -> String {
    let Some(ObjectMeta { uid, generation, deletion_timestamp, .. }) = meta else { return String::new() };
    let (uid, generation) = (uid.as_deref().unwrap_or_default(), generation.unwrap_or_default());
    format!("{uid}/{generation}/{}", deletion_timestamp.is_some())
}

/// The version of an object with all its fields.
pub(super) fn of_metadata(meta: Option<&ObjectMeta>) -> String {
    meta.and_then(|meta| meta.resource_version.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_version_of_a_spec_is_another_after_an_edit_a_deletion_and_a_new_creation() {
        let version = |meta: Value| of_spec(Some(&serde_json::from_value(meta).unwrap()));
        let first = version(json!({ "uid": "p-1", "generation": 2, "resourceVersion": "7" }));
        assert_eq!(first, version(json!({ "uid": "p-1", "generation": 2, "resourceVersion": "9" })));
        for other in [
            json!({ "uid": "p-1", "generation": 3, "resourceVersion": "7" }),
            json!({ "uid": "p-2", "generation": 2, "resourceVersion": "7" }),
            json!({ "uid": "p-1", "generation": 2, "deletionTimestamp": "2026-01-02T03:04:05Z" }),
        ] {
            assert_ne!(version(other.clone()), first, "{other}");
        }
        assert_ne!(of_spec(None), first);
    }
}
