//! Heavy work off the runtime: one event of each Producer at a time, and the Producers take turns, so that none waits
//! longer than it takes to serve one event of each of the others. While a queue of a Producer is long, nothing more of
//! its is read: what waits here is held, and takes room that all Producers share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookwright_core::nats::ids::ProducerUid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// From so many events on that wait, a Producer is not read. A pull that is under way may bring some more.
const LONG: usize = 32;

/// The queues of all Producers.
pub(crate) struct FairQueue {
    /// Semaphores are fair, and each Producer has one event at most that waits for this one.
    all: Arc<Semaphore>,
    queues: Mutex<HashMap<ProducerUid, Arc<Queue>>>,
}

struct Queue {
    one: Arc<Semaphore>,
    events: watch::Sender<usize>,
}

/// A place in a queue.
struct Place {
    turns: Arc<FairQueue>,
    producer: ProducerUid,
    queue: Arc<Queue>,
}

/// The right to do heavy work, until it is dropped.
pub(crate) struct Turn {
    _permits: [Option<OwnedSemaphorePermit>; 2],
    _place: Place,
}

impl FairQueue {
    /// So many events at once, of all Producers.
    pub(crate) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self { all: Arc::new(Semaphore::new(at_once)), queues: Mutex::default() })
    }

    /// Waits for the turn of an event of this Producer.
    pub(crate) async fn take(self: &Arc<Self>, producer: &ProducerUid) -> Turn {
        let place = self.enter(producer);
        // Never closed.
        let one = Arc::clone(&place.queue.one).acquire_owned().await.ok();
        let all = Arc::clone(&self.all).acquire_owned().await.ok();
        Turn { _permits: [one, all], _place: place }
    }

    /// Whether more events of this Producer wait than should.
    pub(crate) fn is_long(&self, producer: &ProducerUid) -> bool {
        self.queues().get(producer).is_some_and(|queue| *queue.events.borrow() >= LONG)
    }

    /// Waits until that is over.
    pub(crate) async fn shortened(&self, producer: &ProducerUid) {
        let events = self.queues().get(producer).map(|queue| queue.events.subscribe());
        if let Some(mut events) = events {
            // A queue that is gone is short.
            let _ = events.wait_for(|events| *events < LONG).await;
        }
    }

    fn enter(self: &Arc<Self>, producer: &ProducerUid) -> Place {
        let mut queues = self.queues();
        let new = || Arc::new(Queue { one: Arc::new(Semaphore::new(1)), events: watch::Sender::new(0) });
        let queue = Arc::clone(queues.entry(producer.clone()).or_insert_with(new));
        queue.events.send_modify(|events| *events += 1);
        Place { turns: Arc::clone(self), producer: producer.clone(), queue }
    }

    // A poisoned lock means a panic between two counts, which is none.
    fn queues(&self) -> MutexGuard<'_, HashMap<ProducerUid, Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
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
        let turns = FairQueue::new(1);
        let (greedy, modest) = (producer("greedy"), producer("modest"));
        let first = turns.take(&greedy).await;
        let mut queue: Vec<_> = (0..100).map(|_| Box::pin(turns.take(&greedy))).collect();
        assert!(queue.iter_mut().all(|turn| turn.now_or_never().is_none()));
        let mut other = Box::pin(turns.take(&modest));
        assert!((&mut other).now_or_never().is_none());
        drop(first);
        // One of the greedy's, which asked before.
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
        let turns = FairQueue::new(1);
        let name = producer("p");
        let mut queue: Vec<_> = (0..LONG).map(|_| Box::pin(turns.take(&name))).collect();
        let first = (&mut queue[0]).now_or_never().unwrap();
        assert!(!turns.is_long(&name));
        for turn in &mut queue[1..] {
            assert!(turn.now_or_never().is_none());
        }
        assert!(turns.is_long(&name) && !turns.is_long(&producer("q")));
        let mut shortened = Box::pin(turns.shortened(&name));
        assert!((&mut shortened).now_or_never().is_none());
        // One that gives up waiting leaves, too.
        drop(queue.pop());
        assert!((&mut shortened).now_or_never().is_some() && !turns.is_long(&name));
        drop((first, queue));
        assert!(turns.queues().is_empty());
        turns.shortened(&name).await;
    }
}
