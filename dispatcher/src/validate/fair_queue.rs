//! Queues for expensive work off the runtime. One event of each Producer is worked on at a time, and the Producers take
//! turns. So no Producer waits longer than one event of each other Producer takes. While a Producer's queue is long, no
//! more of its events are read, because queued events are held and use room that all Producers share.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use hookwright_core::nats::ids::ProducerUid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A queue with this many events is long, and its Producer is not read. A pull that is under way may bring some more.
const LONG: usize = 32;

/// The queues of all Producers.
pub(crate) struct FairQueue {
    /// The permits for work. Semaphores are fair, and at most one event of each Producer waits for this one.
    all: Arc<Semaphore>,
    queues: Mutex<HashMap<ProducerUid, Arc<Queue>>>,
}

struct Queue {
    one: Arc<Semaphore>,
    events: watch::Sender<usize>,
}

/// An event in its Producer's queue, waiting or worked on.
struct QueuedEvent {
    fair_queue: Arc<FairQueue>,
    producer: ProducerUid,
    queue: Arc<Queue>,
}

/// The right to do expensive work, until it is dropped.
pub(crate) struct Turn {
    _permits: [Option<OwnedSemaphorePermit>; 2],
    _event: QueuedEvent,
}

impl FairQueue {
    /// Queues that let this many events be worked on at the same time, over all Producers.
    pub(crate) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self { all: Arc::new(Semaphore::new(at_once)), queues: Mutex::default() })
    }

    /// Queues that use half of the processors, so that the others are left for deliveries.
    pub(crate) fn of_processors() -> Arc<Self> {
        Self::new(available_parallelism().map_or(1, NonZero::get).div_ceil(2))
    }

    /// Waits for the turn of an event of this Producer.
    pub(crate) async fn take(self: &Arc<Self>, producer: &ProducerUid) -> Turn {
        let event = self.enter(producer);
        // The semaphores are never closed.
        let one = Arc::clone(&event.queue.one).acquire_owned().await.ok();
        let all = Arc::clone(&self.all).acquire_owned().await.ok();
        Turn { _permits: [one, all], _event: event }
    }

    /// Whether this Producer's queue is long.
    pub(crate) fn is_long(&self, producer: &ProducerUid) -> bool {
        self.queues().get(producer).is_some_and(|queue| *queue.events.borrow() >= LONG)
    }

    /// Waits until this Producer's queue is no longer long.
    pub(crate) async fn shortened(&self, producer: &ProducerUid) {
        let events = self.queues().get(producer).map(|queue| queue.events.subscribe());
        if let Some(mut events) = events {
            // A Producer without a queue has no events waiting.
            let _ = events.wait_for(|events| *events < LONG).await;
        }
    }

    fn enter(self: &Arc<Self>, producer: &ProducerUid) -> QueuedEvent {
        let mut queues = self.queues();
        let new = || Arc::new(Queue { one: Arc::new(Semaphore::new(1)), events: watch::Sender::new(0) });
        let queue = Arc::clone(queues.entry(producer.clone()).or_insert_with(new));
        queue.events.send_modify(|events| *events += 1);
        QueuedEvent { fair_queue: Arc::clone(self), producer: producer.clone(), queue }
    }

    // A poisoned lock means a panic between two changes of counts, where nothing panics.
    fn queues(&self) -> MutexGuard<'_, HashMap<ProducerUid, Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for QueuedEvent {
    fn drop(&mut self) {
        let mut queues = self.fair_queue.queues();
        self.queue.events.send_modify(|events| *events -= 1);
        if *self.queue.events.borrow() == 0 {
            queues.remove(&self.producer);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn producer(name: &str) -> ProducerUid {
        ProducerUid::parse(name).unwrap()
    }

    #[tokio::test]
    async fn a_producer_waits_for_one_event_of_each_of_the_others_and_no_more() {
        let fair_queue = FairQueue::new(1);
        let (greedy, modest) = (producer("greedy"), producer("modest"));
        let first = fair_queue.take(&greedy).await;
        let mut queue: Vec<_> = (0..100).map(|_| Box::pin(fair_queue.take(&greedy))).collect();
        assert!(queue.iter_mut().all(|turn| turn.now_or_never().is_none()));
        let mut other = Box::pin(fair_queue.take(&modest));
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

    #[tokio::test]
    async fn a_long_queue_says_so_until_it_is_short_and_nothing_is_left_of_it() {
        let fair_queue = FairQueue::new(1);
        let name = producer("p");
        let mut queue: Vec<_> = (0..LONG).map(|_| Box::pin(fair_queue.take(&name))).collect();
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
