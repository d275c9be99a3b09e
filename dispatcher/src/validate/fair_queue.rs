//! Queues for expensive work off the runtime, a queue for each Producer or for each Subscription. A namespace has half of
//! the work at most, one event of each queue is worked on at a time, and all take turns. So however many queues others
//! have, and however much is in them, nobody waits longer than for one event of each other namespace. While a Producer's
//! queue is long, no more of its events are read, because queued events are held and use room that all Producers share.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A queue with this many events is long, and its Producer is not read. A pull that is under way may bring some more.
const LONG: usize = 32;

/// The queues of all Producers, or of all Subscriptions, by their uids.
pub(crate) struct FairQueue<K: Clone + Eq + Hash> {
    /// The permits for work. Semaphores are fair, and few events of each namespace wait for this one.
    all: Arc<Semaphore>,
    /// How many permits a namespace may have or wait for.
    of_namespace: usize,
    namespaces: Mutex<HashMap<String, Weak<Semaphore>>>,
    queues: Mutex<HashMap<K, Arc<Queue>>>,
}

struct Queue {
    one: Arc<Semaphore>,
    of_namespace: Arc<Semaphore>,
    events: watch::Sender<usize>,
}

/// An event in its queue, waiting or worked on.
struct QueuedEvent<K: Clone + Eq + Hash> {
    fair_queue: Arc<FairQueue<K>>,
    of: K,
    queue: Arc<Queue>,
}

/// The right to do expensive work, until it is dropped.
pub(crate) struct Turn<K: Clone + Eq + Hash> {
    _permits: [Option<OwnedSemaphorePermit>; 3],
    _event: QueuedEvent<K>,
}

impl<K: Clone + Eq + Hash> FairQueue<K> {
    /// Queues that let this many events be worked on at the same time, over all of them.
    pub(crate) fn new(at_once: usize) -> Arc<Self> {
        let (all, of_namespace) = (Arc::new(Semaphore::new(at_once)), at_once.div_ceil(2));
        Arc::new(Self { all, of_namespace, namespaces: Mutex::default(), queues: Mutex::default() })
    }

    /// Queues that use half of the processors, so that the others are left for deliveries.
    pub(crate) fn of_processors() -> Arc<Self> {
        Self::new(available_parallelism().map_or(1, NonZero::get).div_ceil(2))
    }

    /// Waits for the turn of an event in this queue of this namespace.
    pub(crate) async fn take(self: &Arc<Self>, namespace: &str, of: &K) -> Turn<K> {
        let event = self.enter(namespace, of);
        // The semaphores are never closed.
        let one = Arc::clone(&event.queue.one).acquire_owned().await.ok();
        let of_namespace = Arc::clone(&event.queue.of_namespace).acquire_owned().await.ok();
        let all = Arc::clone(&self.all).acquire_owned().await.ok();
        Turn { _permits: [one, of_namespace, all], _event: event }
    }

    /// Whether this queue is long.
    pub(crate) fn is_long(&self, of: &K) -> bool {
        self.queues().get(of).is_some_and(|queue| *queue.events.borrow() >= LONG)
    }

    /// Waits until this queue is no longer long.
    pub(crate) async fn shortened(&self, of: &K) {
        let events = self.queues().get(of).map(|queue| queue.events.subscribe());
        if let Some(mut events) = events {
            // A queue that is gone has no events.
            let _ = events.wait_for(|events| *events < LONG).await;
        }
    }

    fn enter(self: &Arc<Self>, namespace: &str, of: &K) -> QueuedEvent<K> {
        let mut queues = self.queues();
        let new = || {
            let (one, of_namespace) = (Arc::new(Semaphore::new(1)), self.namespace(namespace));
            Arc::new(Queue { one, of_namespace, events: watch::Sender::new(0) })
        };
        let queue = Arc::clone(queues.entry(of.clone()).or_insert_with(new));
        queue.events.send_modify(|events| *events += 1);
        QueuedEvent { fair_queue: Arc::clone(self), of: of.clone(), queue }
    }

    /// The permits of a namespace, which are there while it has a queue.
    fn namespace(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = namespaces.get(namespace).and_then(Weak::upgrade) {
            return known;
        }
        namespaces.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Semaphore::new(self.of_namespace));
        namespaces.insert(namespace.to_owned(), Arc::downgrade(&new));
        new
    }

    // A poisoned lock means a panic between two changes of counts, where nothing panics.
    fn queues(&self) -> MutexGuard<'_, HashMap<K, Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Drop for QueuedEvent<K> {
    fn drop(&mut self) {
        let mut queues = self.fair_queue.queues();
        self.queue.events.send_modify(|events| *events -= 1);
        if *self.queue.events.borrow() == 0 {
            queues.remove(&self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use hookwright_core::nats::ids::ProducerUid;

    use super::*;

    fn producer(name: &str) -> ProducerUid {
        ProducerUid::parse(name).unwrap()
    }

    #[tokio::test]
    async fn a_producer_waits_for_one_event_of_each_of_the_others_and_no_more() {
        let fair_queue = FairQueue::new(1);
        let (greedy, modest) = (producer("greedy"), producer("modest"));
        let first = fair_queue.take("a", &greedy).await;
        let mut queue: Vec<_> = (0..100).map(|_| Box::pin(fair_queue.take("a", &greedy))).collect();
        assert!(queue.iter_mut().all(|turn| turn.now_or_never().is_none()));
        let mut other = Box::pin(fair_queue.take("b", &modest));
        assert!((&mut other).now_or_never().is_none());
        drop(first);
        // An event of the greedy Producer asked before and may come first.
        let second = (&mut queue[0]).now_or_never();
        let other = match second {
            Some(turn) => {
                assert!((&mut other).now_or_never().is_none());
                drop(turn);
                (&mut other).now_or_never()
            }
            None => (&mut other).now_or_never(),
        };
        assert!(other.is_some(), "98 events of the greedy one still wait");
    }

    #[test]
    fn a_namespace_with_many_producers_waits_no_less_than_one_with_one() {
        for at_once in [1, 2, 4] {
            let fair_queue = FairQueue::new(at_once);
            let names: Vec<ProducerUid> = (0..100).map(|n| producer(&format!("p{n}"))).collect();
            let mut greedy: Vec<_> = names.iter().map(|name| Box::pin(fair_queue.take("a", name))).collect();
            let mut turns: Vec<_> = greedy.iter_mut().filter_map(|turn| turn.now_or_never()).collect();
            assert_eq!(turns.len(), at_once.div_ceil(2));
            let modest = producer("modest");
            let mut other = Box::pin(fair_queue.take("b", &modest));
            let at_once_or_next = (&mut other).now_or_never().is_some() || {
                turns.pop();
                assert!(greedy.iter_mut().skip(at_once).all(|turn| turn.now_or_never().is_none()));
                (&mut other).now_or_never().is_some()
            };
            assert!(at_once_or_next, "{at_once}");
        }
    }

    #[tokio::test]
    async fn a_long_queue_says_so_until_it_is_short_and_nothing_is_left_of_it() {
        let fair_queue = FairQueue::new(1);
        let name = producer("p");
        let mut queue: Vec<_> = (0..LONG).map(|_| Box::pin(fair_queue.take("a", &name))).collect();
        let first = (&mut queue[0]).now_or_never().unwrap();
        assert!(!fair_queue.is_long(&name));
        for turn in &mut queue[1..] {
            assert!(turn.now_or_never().is_none());
        }
        assert!(fair_queue.is_long(&name) && !fair_queue.is_long(&producer("q")));
        let mut shortened = Box::pin(fair_queue.shortened(&name));
        assert!((&mut shortened).now_or_never().is_none());
        // An event that gives up waiting leaves the queue, too.
        drop(queue.pop());
        assert!((&mut shortened).now_or_never().is_some() && !fair_queue.is_long(&name));
        drop((first, queue));
        assert!(fair_queue.queues().is_empty());
        fair_queue.shortened(&name).await;
    }
}
