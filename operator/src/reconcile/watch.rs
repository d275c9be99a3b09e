//! The watch of one kind: its controller, its store, and whether the first list is complete.

use std::fmt::Debug;

use futures::TryStreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// The watch of one kind.
pub(crate) struct Watched<K: Resource<DynamicType = ()> + Clone + Debug + 'static> {
    pub(crate) controller: Controller<K>,
    pub(crate) store: Store<K>,
    pub(crate) listed: Listed,
}

/// Whether the first list of a kind is complete. `Store::wait_until_ready` would do, but it wakes only the last of
/// several that wait (kube-runtime 5.0).
#[derive(Clone)]
pub(crate) struct Listed(watch::Receiver<bool>);

impl Listed {
    /// And the end that tells.
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until it is; returns at once after that.
    pub(crate) async fn wait(&self) {
        // Fails only when the watch has ended, with the process.
        let _ = self.0.clone().wait_for(|listed| *listed).await;
    }
}

/// Watches all objects of a kind, once the controller runs.
pub(crate) fn watched<K>(client: Client) -> Watched<K>
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
    Watched { controller, store, listed }
}
