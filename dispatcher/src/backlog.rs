//! How far a dispatcher reads ahead: no further than keeps its endpoints busy until the next pull, as what waits in memory
//! passes through the caches in vain, and is sent again if the dispatcher dies. What has waited for a while waits for an
//! endpoint that is slow: it has a bound of its own, so that it does not keep the others' events out. And an event may have
//! ten thousand receivers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Read ahead, in deliveries.
const AHEAD: usize = 512;

/// The deliveries that wait, over all subscriptions.
#[derive(Debug)]
pub(crate) struct Backlog {
    all: Count,
    /// Those that have not waited for long.
    fresh: Count,
    room: Notify,
}

#[derive(Debug)]
struct Count {
    now: AtomicUsize,
    most: usize,
    /// While there are more, there is no room. A quarter less than `most`, so that a pull is worth its while.
    enough: usize,
}

/// Deliveries that wait for their turn, until dropped.
pub(crate) struct Queued {
    backlog: Arc<Backlog>,
    deliveries: usize,
    fresh: bool,
}

impl Count {
    fn new(most: usize) -> Self {
        Self { now: AtomicUsize::new(0), most, enough: most - most.div_ceil(4) }
    }

    fn room(&self) -> Option<usize> {
        let now = self.now.load(Ordering::Acquire);
        (now <= self.enough).then(|| self.most - now)
    }

    /// Whether there is room now that was not there before.
    fn subtract(&self, deliveries: usize) -> bool {
        let before = self.now.fetch_sub(deliveries, Ordering::AcqRel);
        before > self.enough && before - deliveries <= self.enough
    }
}

impl Backlog {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { all: Count::new(most), fresh: Count::new(most.min(AHEAD)), room: Notify::new() })
    }

    /// Places for all deliveries of an event, however many, unless there is no room at all. One is always let in: it takes
    /// no more than its event, whose memory has a bound of its own.
    pub(crate) fn queue(self: &Arc<Self>, deliveries: usize) -> Option<Queued> {
        let more = |now| (now <= self.all.enough || deliveries <= 1).then_some(now + deliveries);
        self.all.now.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        self.fresh.now.fetch_add(deliveries, Ordering::AcqRel);
        Some(Queued { backlog: Arc::clone(self), deliveries, fresh: true })
    }

    /// Waits until there is room to read ahead, and returns for how many deliveries.
    pub(crate) async fn room(&self) -> usize {
        self.when(|| Some(self.all.room()?.min(self.fresh.room()?))).await
    }

    /// Waits until there is room for an event that goes to many.
    pub(crate) async fn room_for_many(&self) {
        self.when(|| self.all.room()).await;
    }

    async fn when<T>(&self, room: impl Fn() -> Option<T>) -> T {
        loop {
            let freed = self.room.notified();
            if let Some(room) = room() {
                return room;
            }
            freed.await;
        }
    }
}

impl Queued {
    /// The place of one of them.
    pub(crate) fn one(&mut self) -> Self {
        let deliveries = self.deliveries.min(1);
        self.deliveries -= deliveries;
        Self { backlog: Arc::clone(&self.backlog), deliveries, fresh: self.fresh }
    }

    /// It has waited for long: others are read.
    pub(crate) fn lingers(&mut self) {
        if std::mem::take(&mut self.fresh) && self.backlog.fresh.subtract(self.deliveries) {
            self.backlog.room.notify_waiters();
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.lingers();
        if self.backlog.all.subtract(self.deliveries) {
            self.backlog.room.notify_waiters();
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
        let mut queued: Vec<Queued> = (0..3).filter_map(|_| backlog.queue(1)).collect();
        assert_eq!(backlog.room().await, 1);
        queued.extend((0..3).filter_map(|_| backlog.queue(1)));
        assert_eq!(queued.len(), 6, "one is always let in");
        let full = async || timeout(Duration::from_secs(1), backlog.room()).await.is_err();
        assert!(full().await);
        queued.truncate(4);
        assert!(full().await, "four of four");
        let (room, ()) = tokio::join!(backlog.room(), async { queued.truncate(2) });
        assert_eq!(room, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_lingers_does_not_keep_others_out_before_all_room_is_taken() {
        let backlog = Backlog::new(2 * AHEAD);
        let mut slow: Vec<Queued> = (0..AHEAD).filter_map(|_| backlog.queue(1)).collect();
        let full = async || timeout(Duration::from_secs(1), backlog.room()).await.is_err();
        assert!(full().await);
        let (room, ()) = tokio::join!(backlog.room(), async { slow.iter_mut().for_each(Queued::lingers) });
        assert_eq!(room, AHEAD);
        let mut more = backlog.queue(AHEAD).unwrap();
        more.lingers();
        assert!(full().await, "no more room at all");
        drop((slow, more));
        assert_eq!(backlog.room().await, AHEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_for_many_waits_until_there_is_room_and_then_has_all_its_places() {
        let backlog = Backlog::new(4);
        let mut first = backlog.queue(1000).unwrap();
        assert!(backlog.queue(2).is_none());
        let mut ones: Vec<Queued> = (0..1000).map(|_| first.one()).collect();
        drop(first);
        ones.truncate(4);
        assert!(backlog.queue(2).is_none());
        ones.truncate(3);
        assert!(backlog.queue(1000).is_some());
        drop(ones);
        assert_eq!(backlog.room().await, 4);
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
