//! How far a dispatcher reads ahead: no further than keeps its endpoints busy until the next pull, as what waits in memory
//! passes through the caches in vain, and is sent again if the dispatcher dies. What has waited for a while waits for an
//! endpoint that is slow: it has a bound of its own, so that it does not keep the others' events out, of which each Producer
//! leaves some to others. And an event may have ten thousand receivers.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::budget::{LOOK, fair};

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

/// What one producer has of it.
#[derive(Debug)]
pub(crate) struct Intake {
    backlog: Arc<Backlog>,
    /// Events that are here, and not matched yet.
    coming: AtomicUsize,
    waiting: AtomicUsize,
    less: Notify,
    /// To how many subscriptions its events went of late: at most, forgotten slowly.
    fan_out: AtomicUsize,
}

/// An event that is here, and not matched yet, until dropped.
pub(crate) struct Coming(Arc<Intake>);

/// Deliveries that wait for their turn, until dropped.
pub(crate) struct Queued {
    intake: Arc<Intake>,
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

    fn left(&self) -> usize {
        self.most.saturating_sub(self.now.load(Ordering::Acquire))
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

    /// Waits until there is room to read ahead, and returns for how many deliveries.
    async fn room(&self) -> usize {
        self.when(|| Some(self.all.room()?.min(self.fresh.room()?))).await
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

impl Intake {
    /// Before anything is known of a producer: few of its events are read at first.
    const FAN_OUT: usize = 128;

    pub(crate) fn new(backlog: &Arc<Backlog>) -> Arc<Self> {
        let (coming, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (less, fan_out) = (Notify::new(), AtomicUsize::new(Self::FAN_OUT));
        Arc::new(Self { backlog: Arc::clone(backlog), coming, waiting, less, fan_out })
    }

    /// An event has come.
    pub(crate) fn coming(self: &Arc<Self>) -> Coming {
        self.coming.fetch_add(1, Ordering::AcqRel);
        Coming(Arc::clone(self))
    }

    /// Places for all deliveries of an event, however many, unless there is no room at all. One is always let in: it takes
    /// no more than its event, whose memory has a bound of its own.
    pub(crate) fn queue(self: &Arc<Self>, deliveries: usize) -> Option<Queued> {
        let Backlog { all, fresh, .. } = &*self.backlog;
        let more = |now| (now <= all.enough || deliveries <= 1).then_some(now + deliveries);
        all.now.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        fresh.now.fetch_add(deliveries, Ordering::AcqRel);
        self.waiting.fetch_add(deliveries, Ordering::AcqRel);
        Some(Queued { intake: Arc::clone(self), deliveries, fresh: true })
    }

    /// Waits until there is room to read ahead, and returns for how many events.
    pub(crate) async fn room(&self) -> u32 {
        loop {
            let room = self.backlog.room().await;
            let coming = self.coming.load(Ordering::Acquire) * self.fan_out.load(Ordering::Relaxed);
            let mine = self.waiting.load(Ordering::Acquire) + coming;
            if let Some(more) = fair(mine, self.backlog.all.left()) {
                return self.events(room.min(more));
            }
            let _ = timeout(LOOK, self.less.notified()).await;
        }
    }

    /// Waits until there is room for an event that goes to many.
    pub(crate) async fn room_for_many(&self) {
        self.backlog.when(|| self.backlog.all.room()).await;
    }

    /// An event went to this many.
    pub(crate) fn saw(&self, matches: usize) {
        let known = self.fan_out.load(Ordering::Relaxed);
        self.fan_out.store(matches.max(known - known.div_ceil(8)), Ordering::Relaxed);
    }

    /// How many events make about this many deliveries; one at least.
    fn events(&self, deliveries: usize) -> u32 {
        let events = deliveries / self.fan_out.load(Ordering::Relaxed).max(1);
        u32::try_from(events).unwrap_or(u32::MAX).max(1)
    }
}

impl Deref for Coming {
    type Target = Arc<Intake>;

    fn deref(&self) -> &Arc<Intake> {
        &self.0
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.coming.fetch_sub(1, Ordering::AcqRel);
        self.less.notify_one();
    }
}

impl Queued {
    /// The place of one of them.
    pub(crate) fn one(&mut self) -> Self {
        let deliveries = self.deliveries.min(1);
        self.deliveries -= deliveries;
        Self { intake: Arc::clone(&self.intake), deliveries, fresh: self.fresh }
    }

    /// It has waited for long: others are read.
    pub(crate) fn lingers(&mut self) {
        let Backlog { fresh, room, .. } = &*self.intake.backlog;
        if std::mem::take(&mut self.fresh) && fresh.subtract(self.deliveries) {
            room.notify_waiters();
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.lingers();
        if self.deliveries == 0 {
            return;
        }
        let Intake { backlog, waiting, less, .. } = &*self.intake;
        waiting.fetch_sub(self.deliveries, Ordering::AcqRel);
        if backlog.all.subtract(self.deliveries) {
            backlog.room.notify_waiters();
        }
        less.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Duration, timeout};

    fn intake(backlog: &Arc<Backlog>) -> Arc<Intake> {
        let intake = Intake::new(backlog);
        (0..100).for_each(|_| intake.saw(1));
        intake
    }

    async fn full(intake: &Intake) -> bool {
        timeout(Duration::from_secs(1), intake.room()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_room_again_when_one_has_its_turn() {
        let intake = intake(&Backlog::new(8));
        let mut queued: Vec<Queued> = (0..3).filter_map(|_| intake.queue(1)).collect();
        assert_eq!(intake.room().await, 1, "four of eight then");
        queued.extend((0..7).filter_map(|_| intake.queue(1)));
        assert_eq!(queued.len(), 10, "one is always let in");
        queued.truncate(4);
        assert!(full(&intake).await, "four of eight");
        let (room, ()) = tokio::join!(intake.room(), async { queued.truncate(2) });
        assert_eq!(room, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn each_producer_leaves_room_for_others() {
        let backlog = Backlog::new(8);
        let (greedy, other) = (intake(&backlog), intake(&backlog));
        let half: Vec<Queued> = (0..4).filter_map(|_| greedy.queue(1)).collect();
        assert!(full(&greedy).await);
        assert_eq!(other.room().await, 2);
        let more: Vec<Queued> = (0..2).filter_map(|_| other.queue(1)).collect();
        assert!(full(&other).await);
        drop(half);
        assert_eq!((other.room().await, greedy.room().await), (2, 3));
        drop(more);
    }

    #[tokio::test(start_paused = true)]
    async fn what_lingers_does_not_keep_others_out_before_all_room_is_taken() {
        let backlog = Backlog::new(3 * AHEAD);
        let (intake, other) = (intake(&backlog), intake(&backlog));
        let mut slow: Vec<Queued> = (0..AHEAD).filter_map(|_| intake.queue(1)).collect();
        assert!(full(&intake).await && full(&other).await);
        let (room, ()) = tokio::join!(other.room(), async { slow.iter_mut().for_each(Queued::lingers) });
        assert_eq!(room as usize, AHEAD);
        let mut more = other.queue(AHEAD).unwrap();
        more.lingers();
        let mut rest = other.queue(AHEAD).unwrap();
        rest.lingers();
        assert!(full(&other).await, "no more room at all");
        drop((slow, more, rest));
        assert_eq!(intake.room().await as usize, AHEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_for_many_waits_until_there_is_room_and_then_has_all_its_places() {
        let intake = intake(&Backlog::new(4));
        let mut first = intake.queue(1000).unwrap();
        assert!(intake.queue(2).is_none());
        let mut ones: Vec<Queued> = (0..1000).map(|_| first.one()).collect();
        drop(first);
        ones.truncate(4);
        assert!(intake.queue(2).is_none());
        let (queued, ()) = tokio::join!(
            async {
                intake.room_for_many().await;
                intake.queue(1000)
            },
            async { ones.truncate(3) }
        );
        assert!(queued.is_some());
        drop((ones, queued));
        assert_eq!(intake.room().await, 2);
    }

    #[test]
    fn fewer_events_are_read_when_each_goes_to_many() {
        let intake = Intake::new(&Backlog::new(4));
        assert_eq!(intake.events(1024), 8, "unknown");
        intake.saw(1000);
        assert_eq!((intake.events(2048), intake.events(10)), (2, 1));
        (0..100).for_each(|_| intake.saw(1));
        assert_eq!(intake.events(1024), 1024);
        (0..100).for_each(|_| intake.saw(0));
        assert_eq!(intake.events(1024), 1024);
    }
}
