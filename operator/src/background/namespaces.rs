//! The watch of namespaces. A change of a namespace's labels may admit Subscriptions to Producers, or shut them out.

use std::convert::Infallible;

use futures::{TryStreamExt, future};
use hookwright_crds::Subscription;
use hookwright_runtime::logging;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use tracing::warn;

use crate::cache::namespaces::NamespaceWriter;
use crate::cache::references::{RefersToProducer, is_foreign};
use crate::context::Context;
use crate::lenient::{Metadata, taken};
use crate::readiness::{Part, Readiness};

/// Follows namespaces, and reconciles the Subscriptions that a change may concern.
pub(crate) async fn watch(ctx: &Context, writer: NamespaceWriter, readiness: &Readiness) -> Infallible {
    let NamespaceWriter { store, listed } = writer;
    let events = watcher(Api::<Metadata<Namespace>>::all(ctx.client.clone()), watcher::Config::default());
    // One of which not even the metadata can be read is left out.
    let events = events.try_filter_map(|event| future::ready(Ok(taken(event, |namespace| namespace.object))));
    let mut events = std::pin::pin!(events.default_backoff().reflect(store));
    loop {
        match events.try_next().await {
            Ok(Some(Event::InitDone)) => {
                listed.send_replace(true);
                readiness.there(Part::Namespaces);
                // Labels may have changed while the watch was broken.
                trigger(ctx, |_| true);
            }
            Ok(Some(Event::Apply(namespace) | Event::Delete(namespace))) => {
                let name = namespace.name_any();
                trigger(ctx, |subscription| subscription.namespace().as_deref() == Some(&name));
            }
            Ok(Some(Event::Init | Event::InitApply(_))) => {}
            Ok(None) => std::future::pending().await,
            Err(error) => warn!(error = logging::chain(&error), "the watch of namespaces failed"),
        }
    }
}

/// Reconciles those Subscriptions that `concerned` picks for which the labels of their namespaces count: they refer to
/// Producers of other namespaces, or to such as have payload policies.
fn trigger(ctx: &Context, concerned: impl Fn(&Subscription) -> bool) {
    let has_policies = |s: &Subscription| {
        let producer = ctx.producers.store.get(&s.producer_ref());
        producer.is_some_and(|producer| producer.spec.payload_policies.is_some())
    };
    for subscription in ctx.subscriptions.store.state_filter(|s| concerned(s) && (is_foreign(s) || has_policies(s))) {
        ctx.triggers.subscriptions.reconcile(ObjectRef::from_obj(&*subscription));
        if subscription.meta().deletion_timestamp.is_none() {
            ctx.triggers.producer_soon(subscription.producer_ref());
        }
    }
}
