//! How far a dispatcher reads ahead: new events are pulled while few deliveries wait for their turn, and as many as are
//! likely to make no more of them wait than there is room for. What is read too early would find its lanes full and be
//! parked, and an event may have ten thousand receivers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The deliveries that wait, over all subscriptions.
#[derive(Debug)]
pub(crate) struct Backlog {
    queued: AtomicUsize,
    most: usize,
    /// While there are more, there is no room. A quarter less than `most`, so that a pull is worth its while.
    enough: usize,
    room: Notify,
}

/// A delivery that waits for its turn, until dropped.
pub(crate) struct Queued(Arc<Backlog>);

impl Backlog {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { queued: AtomicUsize::new(0), most, enough: most - most.div_ceil(4), room: Notify::new() })
    }

    pub(crate) fn queue(self: &Arc<Self>) -> Queued {
        self.queued.fetch_add(1, Ordering::AcqRel);
        Queued(Arc::clone(self))
    }

    /// Waits until there is room, and returns for how many deliveries.
    pub(crate) async fn room(&self) -> usize {
        loop {
            let freed = self.room.notified();
            let queued = self.queued.load(Ordering::Acquire);
            if queued <= self.enough {
                return self.most - queued;
            }
            freed.await;
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.0.queued.fetch_sub(1, Ordering::AcqRel) == self.0.enough + 1 {
            self.0.room.notify_waiters();
        }
    }
}

/// To how many subscriptions the events of a producer went of late: at most, forgotten slowly.
#[derive(Debug)]
pub(crate) struct FanOut(AtomicUsize);

impl FanOut {
    /// Before anything is known: few events are read at first.
    const FIRST: usize = 128;

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(Self::FIRST)))
    }

    /// An event went to this many.
    pub(crate) fn saw(&self, matches: usize) {
        let known = self.0.load(Ordering::Relaxed);
        self.0.store(matches.max(known - known.div_ceil(8)), Ordering::Relaxed);
    }

    /// How many events make about this many deliveries; one at least.
    pub(crate) fn events(&self, deliveries: usize) -> u32 {
        let events = deliveries / self.0.load(Ordering::Relaxed).max(1);
        u32::try_from(events).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Duration, timeout};

    #[tokio::test(start_paused = true)]
    async fn there_is_room_again_when_one_has_its_turn() {
        let backlog = Backlog::new(4);
        let mut queued: Vec<Queued> = (0..3).map(|_| backlog.queue()).collect();
        assert_eq!(backlog.room().await, 1);
        queued.extend((0..3).map(|_| backlog.queue()));
        let full = async || timeout(Duration::from_secs(1), backlog.room()).await.is_err();
        assert!(full().await);
        queued.truncate(4);
        assert!(full().await, "four of four");
        let (room, ()) = tokio::join!(backlog.room(), async { queued.truncate(2) });
        assert_eq!(room, 2);
    }

    #[test]
    fn fewer_events_are_read_when_each_goes_to_many() {
        let fan_out = FanOut::new();
        assert_eq!(fan_out.events(1024), 8, "unknown");
        fan_out.saw(1000);
        assert_eq!((fan_out.events(2048), fan_out.events(10)), (2, 1));
        (0..100).for_each(|_| fan_out.saw(1));
        assert_eq!(fan_out.events(1024), 1024);
        (0..100).for_each(|_| fan_out.saw(0));
        assert_eq!(fan_out.events(1024), 1024);
    }
}
