//! How far a dispatcher reads ahead: no further than keeps its endpoints busy until the next pull, as what waits in memory
//! passes through the caches in vain, and is sent again if the dispatcher dies. What has waited for a while waits for an
//! endpoint that is slow: it has a bound of its own, so that it does not keep the others' events out, of which each Producer
//! leaves some to others. And an event may have ten thousand receivers. While the dispatcher itself is slow, it reads no
//! further ahead than it got on with in the last second: what waits then waits for it.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout};

use crate::limits::budget::{LOOK, fair};
use crate::limits::slowness::Allowance;

/// Read ahead, in deliveries, at the most; and at the least, while the dispatcher is slow.
const AHEAD: usize = 512;
const LEAST: usize = 16;
/// How often what is read ahead is held to the pace of a dispatcher that is slow.
const PACE: Duration = Duration::from_secs(1);

/// While there are more, no more are read. A quarter less, so that a pull is worth its while.
const fn enough(ahead: usize) -> usize {
    ahead - ahead / 4
}

/// The deliveries that wait, over all subscriptions.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    waiting: AtomicUsize,
    most: usize,
    /// Those that have not waited for long.
    fresh: AtomicUsize,
    /// How many of these there may be, about.
    ahead: AtomicUsize,
    room: Notify,
    /// Those that have had their turn, or have left.
    ended: AtomicUsize,
    pace: Mutex<Pace>,
}

/// What had ended when the pace was looked at last.
#[derive(Debug)]
struct Pace {
    looked: Instant,
    ended: usize,
}

/// What one producer has of it.
#[derive(Debug)]
pub(crate) struct Intake {
    read_ahead: Arc<ReadAhead>,
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
pub(crate) struct Places {
    intake: Arc<Intake>,
    deliveries: usize,
    fresh: bool,
}

impl ReadAhead {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            most,
            fresh: AtomicUsize::new(0),
            ahead: AtomicUsize::new(AHEAD),
            room: Notify::new(),
            ended: AtomicUsize::new(0),
            pace: Mutex::new(Pace { looked: Instant::now(), ended: 0 }),
        })
    }

    /// Holds what is read ahead to the pace of a dispatcher that is slow; to be called often.
    pub(crate) fn sweep(&self, now: Instant, allowance: Allowance) {
        // A poisoned lock means a panic between two numbers.
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if now < pace.looked + PACE {
            return;
        }
        let ended = self.ended.load(Ordering::Acquire);
        let got_on = ended.wrapping_sub(pace.ended);
        *pace = Pace { looked: now, ended };
        drop(pace);
        let ahead = if allowance.is_slow() { got_on.clamp(LEAST, AHEAD) } else { AHEAD };
        if self.ahead.swap(ahead, Ordering::AcqRel) < ahead {
            self.room.notify_waiters();
        }
    }

    fn left(&self) -> usize {
        self.most.saturating_sub(self.waiting.load(Ordering::Acquire))
    }

    /// Waits until there is room to read ahead, and returns for how many deliveries.
    async fn room(&self) -> usize {
        loop {
            let freed = self.room.notified();
            let (fresh, ahead) = (self.fresh.load(Ordering::Acquire), self.ahead.load(Ordering::Acquire));
            if fresh <= enough(ahead) {
                return ahead - fresh;
            }
            freed.await;
        }
    }
}

impl Intake {
    /// Before anything is known of a producer: few of its events are read at first.
    const FAN_OUT: usize = 128;

    pub(crate) fn new(read_ahead: &Arc<ReadAhead>) -> Arc<Self> {
        let (coming, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (less, fan_out) = (Notify::new(), AtomicUsize::new(Self::FAN_OUT));
        Arc::new(Self { read_ahead: Arc::clone(read_ahead), coming, waiting, less, fan_out })
    }

    /// An event has come.
    pub(crate) fn coming(self: &Arc<Self>) -> Coming {
        self.coming.fetch_add(1, Ordering::AcqRel);
        Coming(Arc::clone(self))
    }

    /// How many more deliveries may wait, if any, when so many events are about to come.
    fn fair(&self, coming: usize) -> Option<usize> {
        let coming = coming * self.fan_out.load(Ordering::Relaxed);
        fair(self.waiting.load(Ordering::Acquire) + coming, self.read_ahead.left())
    }

    /// Places for all deliveries of an event, however many, unless this producer has its share. One is always let in: it
    /// takes no more than its event, whose memory has a bound of its own.
    pub(crate) fn queue(self: &Arc<Self>, deliveries: usize) -> Option<Places> {
        if deliveries > 1 && self.fair(0).is_none() {
            return None;
        }
        self.read_ahead.waiting.fetch_add(deliveries, Ordering::AcqRel);
        self.read_ahead.fresh.fetch_add(deliveries, Ordering::AcqRel);
        self.waiting.fetch_add(deliveries, Ordering::AcqRel);
        Some(Places { intake: Arc::clone(self), deliveries, fresh: true })
    }

    /// Waits until there is room to read ahead, and returns for how many events.
    pub(crate) async fn room(&self) -> u32 {
        loop {
            let room = self.read_ahead.room().await;
            if let Some(more) = self.fair(self.coming.load(Ordering::Acquire)) {
                return self.events(room.min(more));
            }
            let _ = timeout(LOOK, self.less.notified()).await;
        }
    }

    /// Waits until there is room for an event that goes to many.
    pub(crate) async fn room_for_many(&self) {
        while self.fair(0).is_none() {
            let _ = timeout(LOOK, self.less.notified()).await;
        }
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

impl Places {
    /// The place of one of them.
    pub(crate) fn one(&mut self) -> Self {
        let deliveries = self.deliveries.min(1);
        self.deliveries -= deliveries;
        Self { intake: Arc::clone(&self.intake), deliveries, fresh: self.fresh }
    }

    /// It has waited for long: others are read.
    pub(crate) fn lingers(&mut self) {
        if !std::mem::take(&mut self.fresh) {
            return;
        }
        let ReadAhead { fresh, ahead, room, .. } = &*self.intake.read_ahead;
        let (before, enough) =
            (fresh.fetch_sub(self.deliveries, Ordering::AcqRel), enough(ahead.load(Ordering::Acquire)));
        if before > enough && before - self.deliveries <= enough {
            room.notify_waiters();
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.lingers();
        if self.deliveries == 0 {
            return;
        }
        let Intake { read_ahead, waiting, less, .. } = &*self.intake;
        read_ahead.waiting.fetch_sub(self.deliveries, Ordering::AcqRel);
        read_ahead.ended.fetch_add(self.deliveries, Ordering::AcqRel);
        waiting.fetch_sub(self.deliveries, Ordering::AcqRel);
        less.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Duration, timeout};

    fn intake(read_ahead: &Arc<ReadAhead>) -> Arc<Intake> {
        let intake = Intake::new(read_ahead);
        (0..100).for_each(|_| intake.saw(1));
        intake
    }

    async fn full(intake: &Intake) -> bool {
        timeout(Duration::from_secs(1), intake.room()).await.is_err()
    }

    fn ones(intake: &Arc<Intake>, n: usize) -> Vec<Places> {
        (0..n).filter_map(|_| intake.queue(1)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_room_again_when_one_has_its_turn() {
        let intake = intake(&ReadAhead::new(8));
        let mut queued = ones(&intake, 2);
        assert_eq!(intake.room().await, 2, "four of eight then");
        let coming = [intake.coming(), intake.coming(), intake.coming()];
        assert!(full(&intake).await, "what has come and is not matched yet counts");
        drop(coming);
        queued.extend(ones(&intake, 10));
        assert_eq!(queued.len(), 12, "one is always let in");
        queued.truncate(4);
        assert!(full(&intake).await, "four of eight");
        let (room, ()) = tokio::join!(intake.room(), async { queued.truncate(2) });
        assert_eq!(room, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn each_producer_leaves_room_for_others() {
        let read_ahead = ReadAhead::new(64);
        let greedy: Vec<_> = (0..8).map(|_| intake(&read_ahead)).collect();
        let mut taken = Vec::new();
        for _ in 0..64 {
            for one in &greedy {
                if one.fair(0).is_some() {
                    taken.extend(one.queue(2));
                }
            }
        }
        let other = intake(&read_ahead);
        let left = read_ahead.left();
        assert!((4..=12).contains(&left), "{left} of 64 beside eight that want all");
        assert!(other.room().await >= 2);
        assert!(other.queue(1000).is_some() && other.queue(2).is_some());
        assert!(full(&greedy[0]).await && greedy[0].queue(2).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_lingers_does_not_keep_others_out() {
        let read_ahead = ReadAhead::new(8 * AHEAD);
        let (slow, other) = (intake(&read_ahead), intake(&read_ahead));
        let mut queued = ones(&slow, AHEAD);
        assert!(full(&slow).await && full(&other).await);
        let (room, ()) = tokio::join!(other.room(), async { queued.iter_mut().for_each(Places::lingers) });
        assert_eq!(room as usize, AHEAD);
        drop(queued);
        assert_eq!(read_ahead.fresh.load(Ordering::Acquire), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_for_many_waits_until_there_is_room_and_then_has_all_its_places() {
        let intake = intake(&ReadAhead::new(4));
        let mut first = intake.queue(1000).unwrap();
        assert!(intake.queue(2).is_none());
        let mut ones: Vec<Places> = (0..1000).map(|_| first.one()).collect();
        drop(first);
        ones.truncate(2);
        assert!(intake.queue(2).is_none());
        let (queued, ()) = tokio::join!(
            async {
                intake.room_for_many().await;
                intake.queue(1000)
            },
            async { ones.truncate(1) }
        );
        assert!(queued.is_some());
        drop((ones, queued));
        assert_eq!(intake.room().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_dispatcher_reads_no_further_ahead_than_it_gets_on() {
        let read_ahead = ReadAhead::new(8 * AHEAD);
        let intake = intake(&read_ahead);
        let slow = Allowance::of(Duration::from_secs(1));
        let mut places = ones(&intake, 100);
        for (started, allowance, room) in
            [(60, slow, 60 - 40), (0, slow, 0), (40, slow, 40), (0, Allowance::default(), AHEAD)]
        {
            places.truncate(places.len() - started);
            read_ahead.sweep(Instant::now() + PACE, allowance);
            tokio::time::advance(PACE).await;
            let got = timeout(Duration::from_secs(1), intake.room()).await.unwrap_or_default();
            assert_eq!(got as usize, room, "{} wait", places.len());
        }
    }

    #[test]
    fn fewer_events_are_read_when_each_goes_to_many() {
        let intake = Intake::new(&ReadAhead::new(4));
        assert_eq!(intake.events(1024), 8, "unknown");
        intake.saw(1000);
        assert_eq!((intake.events(2048), intake.events(10)), (2, 1));
        (0..100).for_each(|_| intake.saw(1));
        assert_eq!(intake.events(1024), 1024);
        (0..100).for_each(|_| intake.saw(0));
        assert_eq!(intake.events(1024), 1024);
    }
}
