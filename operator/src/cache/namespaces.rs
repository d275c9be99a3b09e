//! The labels of namespaces, and which namespaces a Producer lets in.

use std::collections::BTreeMap;
use std::convert::Infallible;

use futures::TryStreamExt;
use hookwright_crds::{FromNamespaces, Producer, Subscription};
use hookwright_runtime::logging;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;
use tracing::warn;

use crate::context::Context;
use crate::producer;
use crate::readiness::{Part, Readiness};
use crate::reconcile::watch::Listed;

/// A namespace without its spec and status.
type Metadata = PartialObjectMeta<Namespace>;

/// Namespaces as the watch last saw them.
pub(crate) struct Namespaces {
    store: Store<Metadata>,
    listed: Listed,
}

/// The other end, for [`keep`].
pub(crate) struct Watch {
    writer: reflector::store::Writer<Metadata>,
    listed: watch::Sender<bool>,
}

impl Namespaces {
    pub(crate) fn new() -> (Self, Watch) {
        let (store, writer) = reflector::store();
        let (sender, listed) = Listed::new();
        (Self { store, listed }, Watch { writer, listed: sender })
    }

    fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        Some(self.store.get(&ObjectRef::new(namespace))?.labels().clone())
    }

    /// Whether the Producer lets Subscriptions of this namespace in, by what is known now.
    pub(crate) fn permitted(&self, producer: &Producer, namespace: &str) -> bool {
        if producer.namespace().as_deref() == Some(namespace) {
            return true;
        }
        let Some(allowed) = &producer.spec.allowed_namespaces else { return false };
        match allowed.from {
            FromNamespaces::Same => false,
            // A namespace that isn't there any more has no labels.
            _ => self.labels(namespace).is_some_and(|labels| allowed.admits(&labels)),
        }
    }

    /// The same, once the list of namespaces is complete.
    pub(crate) async fn permits(&self, producer: &Producer, namespace: &str) -> bool {
        if producer.namespace().as_deref() != Some(namespace) && producer.spec.allowed_namespaces.is_some() {
            self.listed.wait().await;
        }
        self.permitted(producer, namespace)
    }
}

/// Follows namespaces and reconciles the Subscriptions that a change of labels may let in or shut out.
pub(crate) async fn keep(ctx: &Context, client: Client, watch: Watch, readiness: &Readiness) -> Infallible {
    let Watch { writer, listed } = watch;
    let events = watcher(Api::<Metadata>::all(client), watcher::Config::default());
    let mut events = std::pin::pin!(events.default_backoff().reflect(writer));
    loop {
        match events.try_next().await {
            Ok(Some(Event::InitDone)) => {
                listed.send_replace(true);
                readiness.there(Part::Namespaces);
                // A change may have come while the watch was broken.
                trigger(ctx, |_| true);
            }
            Ok(Some(Event::Apply(namespace) | Event::Delete(namespace))) => {
                let name = namespace.name_any();
                trigger(ctx, |subscription| subscription.namespace().as_deref() == Some(&name));
            }
            Ok(Some(Event::Init | Event::InitApply(_))) => {}
            Ok(None) => std::future::pending().await,
            Err(error) => warn!(error = logging::chain(&error), "the watch of namespaces"),
        }
    }
}

/// Reconciles the Subscriptions to Producers of other namespaces that `concerned` picks.
fn trigger(ctx: &Context, concerned: impl Fn(&Subscription) -> bool) {
    let foreign = |s: &Subscription| producer::namespace_of(s) != s.namespace().unwrap_or_default();
    for subscription in ctx.subscriptions.state_filter(|s| foreign(s) && concerned(s)) {
        ctx.triggers.subscriptions.reconcile(ObjectRef::from_obj(&*subscription));
        if subscription.meta().deletion_timestamp.is_none() {
            ctx.triggers.producer_soon(producer::producer_ref(&subscription));
        }
    }
}
