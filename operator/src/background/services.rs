//! The watch of Services. An edit of a Service may change the address of a Subscription's endpoint, or shut the
//! Subscription out.

use std::convert::Infallible;

use futures::{TryStreamExt, future};
use hookwright_crds::{ServiceRef, Subscription};
use hookwright_runtime::logging;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use tracing::warn;

use crate::cache::services::ServiceWriter;
use crate::context::Context;
use crate::lenient::{Lenient, taken};
use crate::readiness::{Part, Readiness};

/// Follows Services, and reconciles the Subscriptions that a change concerns.
pub(crate) async fn watch(ctx: &Context, writer: ServiceWriter, readiness: &Readiness) -> Infallible {
    let ServiceWriter { store, listed } = writer;
    let events = watcher(Api::<Lenient<Service>>::all(ctx.client.clone()), watcher::Config::default());
    let events = events.try_filter_map(|event| future::ready(Ok(taken(event, reduced))));
    let mut events = std::pin::pin!(events.default_backoff().reflect(store));
    loop {
        match events.try_next().await {
            Ok(Some(Event::InitDone)) => {
                listed.send_replace(true);
                readiness.there(Part::Services);
                // Services may have changed while the watch was broken.
                trigger(ctx, |_, _| true);
            }
            Ok(Some(Event::Apply(service) | Event::Delete(service))) => {
                let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
                trigger(ctx, |of, reference| reference.name == name && reference.namespace(of) == namespace);
            }
            Ok(Some(Event::Init | Event::InitApply(_))) => {}
            Ok(None) => std::future::pending().await,
            Err(error) => warn!(error = logging::chain(&error), "the watch of Services failed"),
        }
    }
}

/// Returns the Service without what isn't needed of it. One that can't be read has no spec: its address may no longer be
/// what it was. One of which not even the metadata can be read is left out.
fn reduced(service: Lenient<Service>) -> Option<Service> {
    let Lenient { meta, object } = service;
    meta.name.as_ref()?;
    let mut service = object.unwrap_or_else(|| Service { metadata: meta, ..Service::default() });
    service.status = None;
    service.metadata.labels = None;
    Some(service)
}

/// Reconciles the Subscriptions whose reference to a Service `concerned` picks; it gets the Subscription's namespace,
/// too.
fn trigger(ctx: &Context, concerned: impl Fn(&str, &ServiceRef) -> bool) {
    let is_concerned = |subscription: &Subscription| {
        let reference = subscription.spec.endpoint.service_ref.as_ref();
        reference.is_some_and(|reference| concerned(&subscription.namespace().unwrap_or_default(), reference))
    };
    for subscription in ctx.subscriptions.store.state_filter(is_concerned) {
        ctx.triggers.subscriptions.reconcile(ObjectRef::from_obj(&*subscription));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_service_that_can_not_be_read_has_no_spec() {
        let read = |metadata: Value, spec: Value| {
            let service = serde_json::from_str(&json!({ "metadata": metadata, "spec": spec }).to_string()).unwrap();
            reduced(service).map(|service| (service.metadata.resource_version, service.spec.is_some()))
        };
        let metadata = json!({ "name": "crm", "namespace": "shop", "resourceVersion": "7" });
        let version = Some("7".to_owned());
        assert_eq!(read(metadata.clone(), json!({ "clusterIP": "10.96.0.7" })), Some((version.clone(), true)));
        assert_eq!(read(metadata, json!({ "clusterIP": 7 })), Some((version, false)));
        assert_eq!(read(json!(7), json!({})), None);
    }
}
