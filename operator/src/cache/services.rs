//! Services as the watch last brought them.

use std::sync::Arc;

use hookwright_crds::ServiceRef;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::{self, ObjectRef, Store};
use tokio::sync::watch;

use crate::cache::kind::Listed;

/// Services as the watch last brought them.
pub(crate) struct Services {
    store: Store<Service>,
    listed: Listed,
}

/// The writing end of [`Services`], for the watch.
pub(crate) struct ServiceWriter {
    pub(crate) store: reflector::store::Writer<Service>,
    pub(crate) listed: watch::Sender<bool>,
}

impl Services {
    pub(crate) fn new() -> (Self, ServiceWriter) {
        let (store, writer) = reflector::store();
        let (sender, listed) = Listed::new();
        (Self { store, listed }, ServiceWriter { store: writer, listed: sender })
    }

    /// Returns the Service that a Subscription of this namespace refers to, once the list of Services is complete.
    pub(crate) async fn find(&self, namespace: &str, reference: &ServiceRef) -> Option<Arc<Service>> {
        self.listed.wait().await;
        self.store.get(&ObjectRef::new(&reference.name).within(reference.namespace(namespace)))
    }
}
