//! What the operator knows of the objects of one kind, and the watch that brings them.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, TryStreamExt, future};
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
use crate::cache::unreadable::Unreadable;
use crate::lenient::{Lenient, taken};
use crate::served::ServedNamespaces;

/// The objects of one kind.
pub(crate) struct Kind<K: Resource<DynamicType = ()> + Clone + 'static> {
    /// The objects as the watch last brought them.
    pub(crate) store: Store<K>,
    /// The objects that can't be read.
    pub(crate) unreadable: Arc<Unreadable<K>>,
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

/// Makes the watch of all objects of a kind in the namespaces that are served. The watch starts when the controller runs.
/// `report` is told of each object that can't be read, as often as the watch brings it.
///
/// It is one watch of all namespaces, also where only some are served: a watch of each would need rights in each, and
/// Kubernetes deletes those with the namespace, before the operator has let go of the objects in it.
pub(crate) fn watched<K>(
    client: Client,
    namespaces: ServedNamespaces,
    report: impl Fn(&Lenient<K>) + Send + Sync + 'static,
) -> (Controller<K>, Kind<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let (sender, listed) = Listed::new();
    let unreadable = Arc::new(Unreadable::default());
    let events = watcher(Api::<Lenient<K>>::all(client), watcher::Config::default());
    let is_served = move |object: &Lenient<K>| namespaces.include(object.meta.namespace.as_deref().unwrap_or_default());
    let events = events
        .try_filter_map(move |event| future::ready(Ok(taken(event, |object| is_served(&object).then_some(object)))));
    let stream = readable(events, store.clone(), unreadable.clone(), report).reflect(writer);
    let stream = stream.inspect_ok(move |event| {
        if matches!(event, Event::InitDone) {
            sender.send_replace(true);
        }
    });
    let controller = Controller::for_stream(stream.applied_objects(), store.clone());
    (controller, Kind { store, unreadable, listed, own_writes: OwnWrites::default() })
}

/// Leaves out objects that can't be read, and notes them.
fn readable<K>(
    events: impl Stream<Item = Result<Event<Lenient<K>>, watcher::Error>>,
    store: Store<K>,
    unreadable: Arc<Unreadable<K>>,
    report: impl Fn(&Lenient<K>),
) -> impl Stream<Item = Result<Event<K>, watcher::Error>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let reference = |object: &Lenient<K>| {
        let name = ObjectRef::new(object.meta.name.as_deref().unwrap_or_default());
        name.within(object.meta.namespace.as_deref().unwrap_or_default())
    };
    events.try_filter_map(move |event| {
        let take = |object: Lenient<K>| {
            if object.object.is_some() {
                unreadable.remove(&reference(&object));
            } else {
                unreadable.add(reference(&object));
                report(&object);
            }
            object.object
        };
        let event = match event {
            Event::Init => {
                unreadable.begin();
                Some(Event::Init)
            }
            Event::InitApply(object) => take(object).map(Event::InitApply),
            Event::InitDone => {
                unreadable.complete();
                Some(Event::InitDone)
            }
            Event::Apply(object) => take(object).map(Event::Apply),
            Event::Delete(object) => {
                let reference = reference(&object);
                unreadable.remove(&reference);
                let last = || store.get(&reference).map(|last| K::clone(&last));
                object.object.or_else(last).map(Event::Delete)
            }
        };
        future::ready(Ok(event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use hookwright_crds::Subscription;

    #[tokio::test]
    async fn the_store_keeps_the_last_form_that_could_be_read_until_the_object_goes() {
        let object = |name: &str, is_read: bool| -> Lenient<Subscription> {
            let metadata = serde_json::json!({ "name": name, "namespace": "shop", "uid": name });
            let spec = serde_json::json!({
                "producerRef": { "name": "orders" }, "eventTypes": [{ "type": ">" }],
                "endpoint": { "url": "https://example.com/" },
            });
            let spec = if is_read { spec } else { serde_json::Value::Null };
            let text = serde_json::json!({
                "apiVersion": "hookwright.dev/v1alpha1", "kind": "Subscription", "metadata": metadata, "spec": spec,
            });
            serde_json::from_str(&text.to_string()).unwrap()
        };
        let (store, writer) = reflector::store();
        let (unreadable, reported) = (Arc::new(Unreadable::default()), Arc::new(std::sync::Mutex::new(Vec::new())));
        let (events, input) = futures::channel::mpsc::unbounded();
        let report = {
            let reported = reported.clone();
            move |object: &Lenient<Subscription>| reported.lock().unwrap().push(object.meta.name.clone().unwrap())
        };
        let stream = readable(input, store.clone(), unreadable.clone(), report).reflect(writer);
        let mut stream = std::pin::pin!(stream);
        let names = |store: &Store<Subscription>| {
            let mut names: Vec<_> = store.state().iter().map(|object| object.meta().name.clone().unwrap()).collect();
            names.sort();
            names
        };
        let list = [Event::Init, Event::InitApply(object("a", true)), Event::InitApply(object("b", false))];
        for event in list.into_iter().chain([Event::InitDone, Event::Apply(object("a", false))]) {
            events.unbounded_send(Ok(event)).unwrap();
        }
        for _ in 0..3 {
            stream.next().await.unwrap().unwrap();
        }
        events.unbounded_send(Ok(Event::Apply(object("c", true)))).unwrap();
        stream.next().await.unwrap().unwrap();
        assert_eq!((names(&store), unreadable.count()), (vec!["a".to_owned(), "c".to_owned()], 2));
        assert_eq!(*reported.lock().unwrap(), ["b", "a"]);
        for event in [Event::Delete(object("a", false)), Event::Apply(object("b", true))] {
            events.unbounded_send(Ok(event)).unwrap();
            stream.next().await.unwrap().unwrap();
        }
        assert_eq!((names(&store), unreadable.count()), (vec!["b".to_owned(), "c".to_owned()], 0));
    }
}
