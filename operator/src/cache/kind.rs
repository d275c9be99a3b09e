//! What the operator knows of the objects of one kind, and the watch that brings them.

use std::fmt::Debug;
use std::sync::Arc;

use futures::TryStreamExt;
use hookwright_crds::Producer;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::cache::own_writes::OwnWrites;
use crate::cache::references::{RefersToProducer, full_name};

/// The objects of one kind.
pub(crate) struct Kind<K: Resource<DynamicType = ()> + Clone + 'static> {
    /// The objects as the watch last brought them.
    pub(crate) store: Store<K>,
    /// Whether the first list is complete.
    pub(crate) listed: Listed,
    /// The answers to the operator's own writes of status.
    pub(crate) own_writes: OwnWrites<K>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Kind<K> {
    /// Returns a reference to the object with this uid.
    pub(crate) fn find(&self, uid: &str) -> Option<ObjectRef<K>> {
        let found = self.store.find(|object| object.meta().uid.as_deref() == Some(uid));
        found.map(|object| ObjectRef::from_obj(&*object))
    }

    /// Returns `namespace/name` of the object with this uid, for logs.
    pub(crate) fn full_name(&self, uid: &str) -> String {
        self.find(uid).map_or_else(String::new, |object| full_name(object.namespace.as_deref(), Some(&object.name)))
    }
}

impl<K: RefersToProducer + Resource<DynamicType = ()> + Clone + 'static> Kind<K> {
    /// Returns the objects that refer to a Producer, those that are being deleted left out.
    pub(crate) fn of_producer(&self, producer: &ObjectRef<Producer>) -> Vec<Arc<K>> {
        self.store
            .state_filter(|object| object.meta().deletion_timestamp.is_none() && object.producer_ref() == *producer)
    }
}

/// Tells whether the first list of a kind is complete. `Store::wait_until_ready` wakes only the last of several waiting
/// tasks (kube-runtime 5.0), so it can't be used here.
#[derive(Clone)]
pub(crate) struct Listed(watch::Receiver<bool>);

impl Listed {
    /// Returns the sender with which the watch reports that the list is complete, and the receiving end.
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until the first list is complete; returns at once after that.
    pub(crate) async fn wait(&self) {
        // Fails only when the watch has ended, with the process.
        let _ = self.0.clone().wait_for(|listed| *listed).await;
    }
}

/// Makes the watch of all objects of a kind. The watch starts when the controller runs.
pub(crate) fn watched<K>(client: Client) -> (Controller<K>, Kind<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let (sender, listed) = Listed::new();
    let stream = watcher(Api::<K>::all(client), watcher::Config::default()).reflect(writer);
    let stream = stream.inspect_ok(move |event| {
        if matches!(event, Event::InitDone) {
            sender.send_replace(true);
        }
    });
    let controller = Controller::for_stream(stream.applied_objects(), store.clone());
    (controller, Kind { store, listed, own_writes: OwnWrites::default() })
}
