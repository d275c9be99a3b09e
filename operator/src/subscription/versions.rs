//! The versions of what a Subscription's record is made from besides the Subscription: the Producer, the labels of the
//! namespace and a Service. None of them changes the Subscription's generation.

use hookwright_crds::{Producer, Subscription};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::cache::references::{RefersToProducer, is_foreign};
use crate::context::Context;

/// The versions of all but the Secrets, as the watches had brought them. What was then used is no older.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// The last form of the Producer that could be read.
    pub(super) producer: String,
    /// None if the labels of the namespace don't matter.
    pub(super) namespace: Option<String>,
    /// None if no Service was looked at.
    pub(super) service: Option<String>,
}

impl Versions {
    /// Returns the versions of what says whether, and how, the Subscription may be served. The Service is looked at later.
    pub(super) async fn now(subscription: &Subscription, ctx: &Context) -> Self {
        ctx.producers.listed.wait().await;
        let producer = ctx.producers.store.get(&subscription.producer_ref());
        let namespace = if producer.as_ref().is_some_and(|producer| labels_matter(producer, is_foreign(subscription))) {
            let of = subscription.namespace().unwrap_or_default();
            Some(of_metadata(ctx.namespaces.find(&of).await.as_deref().map(Resource::meta)))
        } else {
            None
        };
        Self { producer: of_spec(producer.as_deref().map(Resource::meta)), namespace, service: None }
    }
}

/// Returns whether it depends on the labels of a Subscription's namespace what the Producer lets it have. Without a grant
/// to any other namespace it doesn't for a foreign one.
fn labels_matter(producer: &Producer, is_foreign: bool) -> bool {
    let spec = &producer.spec;
    if is_foreign { spec.allowed_namespaces.is_some() } else { spec.payload_policies.is_some() }
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
    fn labels_matter_only_where_something_depends_on_them() {
        let (grants, policies) = (json!({ "from": "All" }), json!([{ "from": "All", "exclude": ["/secret"] }]));
        for (allowed, policies, own, foreign) in [
            (json!(null), json!(null), false, false),
            (json!(null), policies.clone(), true, false),
            (grants.clone(), json!(null), false, true),
            (grants, policies, true, true),
        ] {
            let spec = json!({ "subjects": ["shop.>"], "allowedNamespaces": allowed, "payloadPolicies": policies });
            let producer = json!({ "metadata": { "name": "orders" }, "spec": spec });
            let producer: Producer = serde_json::from_value(producer).unwrap();
            assert_eq!((labels_matter(&producer, false), labels_matter(&producer, true)), (own, foreign), "{spec}");
        }
    }

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
