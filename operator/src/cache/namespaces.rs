//! The labels of namespaces, and which namespaces a Producer admits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hookwright_crds::{FromNamespaces, Producer};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use tokio::sync::watch;

use crate::cache::kind::Listed;

/// A namespace without its spec and status.
pub(crate) type NamespaceMetadata = PartialObjectMeta<Namespace>;

/// Namespaces as the watch last brought them.
pub(crate) struct Namespaces {
    store: Store<NamespaceMetadata>,
    listed: Listed,
}

/// The writing end of [`Namespaces`], for the watch.
pub(crate) struct NamespaceWriter {
    pub(crate) store: reflector::store::Writer<NamespaceMetadata>,
    pub(crate) listed: watch::Sender<bool>,
}

impl Namespaces {
    pub(crate) fn new() -> (Self, NamespaceWriter) {
        let (store, writer) = reflector::store();
        let (sender, listed) = Listed::new();
        (Self { store, listed }, NamespaceWriter { store: writer, listed: sender })
    }

    fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        Some(self.store.get(&ObjectRef::new(namespace))?.labels().clone())
    }

    /// Returns a namespace, once the list of namespaces is complete.
    pub(crate) async fn find(&self, namespace: &str) -> Option<Arc<NamespaceMetadata>> {
        self.listed.wait().await;
        self.store.get(&ObjectRef::new(namespace))
    }

    /// Returns the uid of a namespace, once the list of namespaces is complete; none if the watch doesn't know it yet.
    pub(crate) async fn uid(&self, namespace: &str) -> Option<String> {
        self.find(namespace).await?.uid()
    }

    /// Returns the uids of the other namespaces that the Producer admits.
    pub(crate) async fn admitted(&self, producer: &Producer) -> BTreeSet<String> {
        self.listed.wait().await;
        let (own, all) = (producer.namespace(), self.store.state());
        let others = all.iter().filter(|other| other.metadata.name != own);
        others.filter(|other| self.permitted(producer, &other.name_any())).filter_map(|other| other.uid()).collect()
    }

    /// Returns whether the Producer admits Subscriptions of this namespace, by the labels that are known now.
    pub(crate) fn permitted(&self, producer: &Producer, namespace: &str) -> bool {
        if producer.namespace().as_deref() == Some(namespace) {
            return true;
        }
        let Some(allowed) = &producer.spec.allowed_namespaces else { return false };
        match allowed.from {
            FromNamespaces::Same => false,
            // A namespace that was deleted has no labels.
            _ => self.labels(namespace).is_some_and(|labels| allowed.admits(&labels)),
        }
    }

    /// The labels of a namespace, once the list of namespaces is complete.
    pub(crate) async fn all_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.listed.wait().await;
        self.labels(namespace)
    }

    /// Like [`Namespaces::permitted`], but waits until the list of namespaces is complete.
    pub(crate) async fn permits(&self, producer: &Producer, namespace: &str) -> bool {
        if producer.namespace().as_deref() != Some(namespace) && producer.spec.allowed_namespaces.is_some() {
            self.listed.wait().await;
        }
        self.permitted(producer, namespace)
    }
}
