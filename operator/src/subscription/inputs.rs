//! Whether that from which a Subscription's record is made, besides the Subscription, is still as it was used.

use std::collections::BTreeSet;
use std::fmt::Debug;

use hookwright_crds::{DEFAULT_SIGNING_KEY, Producer, Subscription};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::fetch::{Fetched, given_keys};
use super::versions::{of_metadata, of_spec};
use crate::cache::references::RefersToProducer;
use crate::context::Context;
use crate::lenient::Metadata;
use crate::reconcile::error::ReconcileError;
use crate::reconcile::fenced;
use crate::secrets;

/// What the records of a Subscription are made from.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(super) subscription: &'a Subscription,
    pub(super) fetched: &'a Fetched,
    pub(super) ctx: &'a Context,
}

impl fenced::Inputs for Inputs<'_> {
    async fn are_current(&self, since: Instant) -> Result<bool, ReconcileError> {
        let Self { subscription, fetched, ctx } = self;
        let versions = &fetched.versions;
        let (client, namespace) = (ctx.client.clone(), subscription.namespace().unwrap_or_default());
        let producer = subscription.producer_ref();
        let api: Api<Metadata<Producer>> =
            Api::namespaced(client.clone(), producer.namespace.as_deref().unwrap_or_default());
        if !self.is_current(&api, &producer.name, &versions.producer, of_spec, since).await? {
            // The watch will bring no newer form of it.
            let is_unreadable = ctx.producers.unreadable.contains(&producer);
            return if is_unreadable { Err(ReconcileError::ProducerUnreadable) } else { Ok(false) };
        }
        if let Some(version) = &versions.namespace
            && !self.is_current::<Namespace>(&Api::all(client.clone()), &namespace, version, of_metadata, since).await?
        {
            return Ok(false);
        }
        // Without a grant, neither Service nor Secrets were looked at.
        if let (Some(version), Some(service)) = (&versions.service, &subscription.spec.endpoint.service_ref) {
            let api: Api<Metadata<Service>> = Api::namespaced(client, service.namespace(&namespace));
            if !self.is_current(&api, &service.name, version, of_metadata, since).await? {
                return Ok(false);
            }
        }
        self.secrets_are_current(since).await
    }

    fn are_all(&self) -> bool {
        self.fetched.is_complete
    }
}

impl Inputs<'_> {
    /// Returns whether the API server has an object in this version. It is asked unless it has said so since then.
    async fn is_current<K>(
        &self,
        api: &Api<Metadata<K>>,
        name: &str,
        used: &str,
        version: fn(Option<&ObjectMeta>) -> String,
        since: Instant,
    ) -> Result<bool, ReconcileError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let (fences, what) = (&self.ctx.fences, format!("{}/{name}", api.resource_url()));
        if fences.is_read(&what, used, since) {
            return Ok(true);
        }
        let began = Instant::now();
        // The operator may list everything of these, and get not all.
        let found = api.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await;
        let found = found.map_err(|error| ReconcileError::Read(error.into()))?;
        let is_current = version(found.items.first().map(|object| &object.meta)) == used;
        if is_current {
            fences.read(&what, used, began);
        }
        Ok(is_current)
    }

    async fn secrets_are_current(&self, since: Instant) -> Result<bool, ReconcileError> {
        let Self { subscription, fetched, ctx } = self;
        for (name, keys, used) in used(subscription, fetched) {
            let place = (subscription.namespace().unwrap_or_default(), name);
            let (is_same, users) = secrets::is_as_used(&ctx.secrets, &place, &keys, used, since).await?;
            for user in users {
                ctx.triggers.subscriptions.reconcile(user);
            }
            if !is_same {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Returns the Secrets that were used, with the keys that matter.
fn used<'a>(
    subscription: &Subscription,
    fetched: &'a Fetched,
) -> impl Iterator<Item = (String, BTreeSet<String>, Option<&'a Secret>)> {
    let given = given_keys(subscription).into_iter();
    let given = given.filter_map(move |(name, keys)| {
        let used = fetched.secrets.get(&name)?.as_ref();
        Some((name, keys, used))
    });
    let generated = fetched.generated.iter().map(|generated| {
        let keys = BTreeSet::from([DEFAULT_SIGNING_KEY.to_owned()]);
        (generated.name.clone(), keys, Some(&generated.secret))
    });
    given.chain(generated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_secret_that_was_used_counts() {
        let subscription: Subscription = serde_json::from_value(json!({
            "metadata": { "name": "billing" },
            "spec": {
                "producerRef": { "name": "orders" },
                "signing": { "keys": [{ "secretKeyRef": { "name": "keys", "key": "new" } },
                                      { "secretKeyRef": { "name": "unread", "key": "a" } }] },
                "endpoint": { "url": "https://example.com", "headers": [
                    { "name": "A", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "token" } } },
                    { "name": "B", "valueFrom": { "secretKeyRef": { "name": "missing", "key": "token" } } },
                ] },
            },
        }))
        .unwrap();
        let secrets = [("keys".to_owned(), Some(Secret::default())), ("missing".to_owned(), None)];
        let fetched = Fetched { secrets: secrets.into(), ..Fetched::default() };
        let found: Vec<_> = used(&subscription, &fetched)
            .map(|(name, keys, used)| (name, keys.into_iter().collect::<Vec<_>>().join(","), used.is_some()))
            .collect();
        let want = [("keys", "new,token", true), ("missing", "token", false)];
        assert_eq!(found, want.map(|(name, keys, is_there)| (name.to_owned(), keys.to_owned(), is_there)));
    }
}
