//! Reconciles for a reason other than a change of the object itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_crds::{EventSchema, Producer, Subscription};
use kube::runtime::reflector::{Lookup, ObjectRef};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::cache::kind::Kind;
use crate::cache::leases::{Goal, Leases, Rollout};
use crate::cache::shared::Shared;

/// The queue of the objects of one kind to reconcile, and of those that wait for the dispatchers.
pub(crate) struct Queue<K: Lookup<DynamicType = ()>> {
    sender: UnboundedSender<ObjectRef<K>>,
    /// What the dispatchers have to have loaded for each object, and the Producer that this concerns.
    pending: Shared<HashMap<ObjectRef<K>, (Goal, ProducerUid)>>,
}

/// How long the requests to reconcile a Producer are gathered.
const GATHER: Duration = Duration::from_secs(1);

/// The queues of all kinds.
pub(crate) struct Triggers {
    pub(crate) producers: Queue<Producer>,
    pub(crate) subscriptions: Queue<Subscription>,
    pub(crate) schemas: Queue<EventSchema>,
    soon: Arc<Shared<HashSet<ObjectRef<Producer>>>>,
}

/// The receiving ends of the queues, for the controllers.
pub(crate) struct Triggered {
    pub(crate) producers: UnboundedReceiver<ObjectRef<Producer>>,
    pub(crate) subscriptions: UnboundedReceiver<ObjectRef<Subscription>>,
    pub(crate) schemas: UnboundedReceiver<ObjectRef<EventSchema>>,
}

impl<K: Lookup<DynamicType = ()>> Queue<K> {
    fn new() -> (Self, UnboundedReceiver<ObjectRef<K>>) {
        let (sender, receiver) = unbounded_channel();
        (Self { sender, pending: Shared::default() }, receiver)
    }

    /// Reconciles this object.
    pub(crate) fn reconcile(&self, object: ObjectRef<K>) {
        // Fails only when the controller has ended, with the process.
        let _ = self.sender.send(object);
    }

    /// Reconciles this object as soon as all live dispatchers have reached the goal, or no dispatcher serves the
    /// Producer.
    pub(crate) fn when_loaded(&self, object: ObjectRef<K>, goal: Goal, producer: &ProducerUid) {
        self.pending.lock().insert(object, (goal, producer.clone()));
    }

    /// Notes that the object no longer waits for the dispatchers.
    pub(crate) fn settled(&self, object: &ObjectRef<K>) {
        self.pending.lock().remove(object);
    }

    fn release(&self, leases: &Leases) {
        let mut pending = self.pending.lock();
        let is_over = |goal, producer: &ProducerUid| {
            matches!(leases.rollout(goal, producer), Rollout::Loaded | Rollout::Unserved { .. })
        };
        for (object, _) in pending.extract_if(|_, (goal, producer)| is_over(*goal, producer)) {
            self.reconcile(object);
        }
    }
}

impl Triggers {
    pub(crate) fn new() -> (Self, Triggered) {
        let (producers, producers_out) = Queue::new();
        let (subscriptions, subscriptions_out) = Queue::new();
        let (schemas, schemas_out) = Queue::new();
        let triggered = Triggered { producers: producers_out, subscriptions: subscriptions_out, schemas: schemas_out };
        (Self { producers, subscriptions, schemas, soon: Arc::default() }, triggered)
    }

    /// Reconciles a Producer in a second, once for all requests until then.
    pub(crate) fn producer_soon(&self, producer: ObjectRef<Producer>) {
        let insert = |set: &Shared<HashSet<_>>| set.lock().insert(producer.clone());
        if !insert(&self.soon) {
            return;
        }
        let (soon, sender) = (self.soon.clone(), self.producers.sender.clone());
        tokio::spawn(async move {
            tokio::time::sleep(GATHER).await;
            soon.lock().remove(&producer);
            let _ = sender.send(producer);
        });
    }

    /// Reconciles the objects that wait, at each change of the leases and whenever a lease runs out. A Producer is also
    /// reconciled when the last dispatcher stops serving it, and when one serves it again.
    pub(crate) async fn follow(&self, leases: &Leases, producers: &Kind<Producer>) {
        let mut changes = leases.changes();
        let mut unserved = HashSet::new();
        loop {
            let next = leases.expire();
            let before = std::mem::replace(&mut unserved, leases.unserved());
            for uid in before.symmetric_difference(&unserved) {
                producers.find(uid.as_str()).into_iter().for_each(|producer| self.producers.reconcile(producer));
            }
            self.producers.release(leases);
            self.subscriptions.release(leases);
            self.schemas.release(leases);
            let expiry = async {
                match next {
                    Some(time) => tokio::time::sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = expiry => {}
            }
        }
    }
}

/// Returns a queue's receiving end as a stream.
pub(crate) fn stream<T: Send + 'static>(receiver: UnboundedReceiver<T>) -> impl Stream<Item = T> + Send + 'static {
    futures::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) })
}
