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

/// Returns the Service without what isn't needed of it, unless it can't be read.
fn reduced(service: Lenient<Service>) -> Option<Service> {
    let mut service = service.object?;
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
