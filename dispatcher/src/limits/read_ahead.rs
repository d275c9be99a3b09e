//! Limits how far a dispatcher reads ahead.
//!
//! It reads only as many deliveries ahead as keep its endpoints busy until the next pull. A delivery that waits in
//! memory has left the processor's caches when its turn comes, and is sent again if the dispatcher dies. A delivery
//! that has waited for a while waits for a slow endpoint. It no longer counts here, but among those that linger in their
//! lanes, so that it keeps no events for other endpoints out. An event may have ten thousand receivers, so deliveries are
//! counted, not events, and each namespace and each of its Producers leaves some of the bound to others. While the
//! dispatcher itself is slow, it reads no further ahead than it got in the last second, because deliveries then wait for
//! the dispatcher.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant, timeout};

use crate::limits::budget::{LOOK, fair_within};
use crate::limits::outage::Tenant;
use crate::limits::slowness::Allowance;

/// The most deliveries that are read ahead.
const AHEAD: usize = 512;
/// The fewest deliveries that a slow dispatcher reads ahead.
const LEAST: usize = 16;
/// How often a slow dispatcher's reading ahead is limited to its pace.
const PACE: Duration = Duration::from_secs(1);

/// While more deliveries than this are read ahead, no events are read. It is a quarter below `ahead`, so that a pull is
/// worth its cost.
const fn enough(ahead: usize) -> usize {
    ahead - ahead / 4
}

/// While a namespace has fewer deliveries than this read ahead, those of others don't keep it from reading.
const fn little(ahead: usize) -> usize {
    ahead.div_ceil(16)
}

/// The deliveries that have not waited for long, over all Subscriptions.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    /// The setting `limits.waiting`.
    all_waiting: usize,
    fresh: AtomicUsize,
    /// About how many such fresh deliveries there may be.
    ahead: AtomicUsize,
    room: Notify,
    /// How many deliveries have stopped waiting: they had their turn, or they left.
    ended: AtomicUsize,
    pace: Mutex<Pace>,
}

/// How many deliveries had stopped waiting when the pace was last measured.
#[derive(Debug)]
struct Pace {
    looked: Instant,
    ended: usize,
}

/// One Producer's part of the deliveries that are read ahead.
#[derive(Debug)]
pub(crate) struct Intake {
    read_ahead: Arc<ReadAhead>,
    /// The Producer's namespace.
    tenant: Arc<Tenant>,
    /// How many events have arrived and are not matched yet.
    coming: AtomicUsize,
    fresh: AtomicUsize,
    less: Notify,
    /// To how many Subscriptions the events of this Producer went lately: the most, which is forgotten slowly.
    fan_out: AtomicUsize,
}

/// An event that has arrived and is not matched yet. It counts until dropped.
pub(crate) struct Coming(Arc<Intake>);

/// The places of waiting deliveries. They are free again when dropped.
pub(crate) struct Places {
    intake: Arc<Intake>,
    deliveries: usize,
    fresh: bool,
}

impl ReadAhead {
    pub(crate) fn new(all_waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            all_waiting,
            fresh: AtomicUsize::new(0),
            ahead: AtomicUsize::new(AHEAD),
            room: Notify::new(),
            ended: AtomicUsize::new(0),
            pace: Mutex::new(Pace { looked: Instant::now(), ended: 0 }),
        })
    }

    /// Limits a slow dispatcher's reading ahead to its pace. To be called often.
    pub(crate) fn sweep(&self, now: Instant, allowance: Allowance) {
        // A poisoned lock means a panic between the changes of two numbers.
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
        self.all_waiting.saturating_sub(self.fresh.load(Ordering::Acquire))
    }

    /// Waits until there is room to read ahead for this namespace, and returns for how many deliveries.
    async fn room(&self, tenant: &Tenant) -> usize {
        loop {
            let freed = self.room.notified();
            let (fresh, ahead) = (self.fresh.load(Ordering::Acquire), self.ahead.load(Ordering::Acquire));
            if fresh <= enough(ahead) {
                return ahead - fresh;
            }
            let (mine, little) = (tenant.ahead.load(Ordering::Acquire), little(ahead));
            if mine < little {
                return little - mine;
            }
            freed.await;
        }
    }
}

impl Intake {
    /// The fan-out that is assumed of a new Producer, so that few of its events are read at first.
    const FAN_OUT: usize = 128;

    pub(crate) fn new(read_ahead: &Arc<ReadAhead>, tenant: Arc<Tenant>) -> Arc<Self> {
        let (coming, fresh) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (less, fan_out) = (Notify::new(), AtomicUsize::new(Self::FAN_OUT));
        Arc::new(Self { read_ahead: Arc::clone(read_ahead), tenant, coming, fresh, less, fan_out })
    }

    /// Counts an event that has arrived.
    pub(crate) fn coming(self: &Arc<Self>) -> Coming {
        self.coming.fetch_add(1, Ordering::AcqRel);
        Coming(Arc::clone(self))
    }

    /// How many more deliveries may be read if `coming` events are about to be matched; `None` if this Producer or its
    /// namespace has its share.
    fn fair(&self, coming: usize) -> Option<usize> {
        let coming = coming * self.fan_out.load(Ordering::Relaxed);
        let held = |fresh: &AtomicUsize| fresh.load(Ordering::Acquire) + coming;
        fair_within(held(&self.tenant.ahead), held(&self.fresh), self.read_ahead.left())
    }

    /// Takes places for all deliveries of an event, however many; `None` if this Producer has its share. A single
    /// delivery always gets a place: it takes no more memory than its event, which has a bound of its own.
    pub(crate) fn queue(self: &Arc<Self>, deliveries: usize) -> Option<Places> {
        if deliveries > 1 && self.fair(0).is_none() {
            return None;
        }
        for fresh in [&self.read_ahead.fresh, &self.tenant.ahead, &self.fresh] {
            fresh.fetch_add(deliveries, Ordering::AcqRel);
        }
        Some(Places { intake: Arc::clone(self), deliveries, fresh: true })
    }

    /// Waits until there is room to read ahead, and returns for how many events.
    pub(crate) async fn room(&self) -> u32 {
        loop {
            let room = self.read_ahead.room(&self.tenant).await;
            if let Some(more) = self.fair(self.coming.load(Ordering::Acquire)) {
                return self.events(room.min(more));
            }
            let _ = timeout(LOOK, self.less.notified()).await;
        }
    }

    /// Waits until there is room for an event with many receivers.
    pub(crate) async fn room_for_many(&self) {
        while self.fair(0).is_none() {
            let _ = timeout(LOOK, self.less.notified()).await;
        }
    }

    /// Remembers that an event went to this many Subscriptions.
    pub(crate) fn saw(&self, matches: usize) {
        let known = self.fan_out.load(Ordering::Relaxed);
        self.fan_out.store(matches.max(known - known.div_ceil(8)), Ordering::Relaxed);
    }

    /// How many events make about this many deliveries; at least one.
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
    /// Splits off the place of one delivery.
    pub(crate) fn one(&mut self) -> Self {
        let deliveries = self.deliveries.min(1);
        self.deliveries -= deliveries;
        Self { intake: Arc::clone(&self.intake), deliveries, fresh: self.fresh }
    }

    /// Marks these deliveries as having waited for long, so that others are read.
    pub(crate) fn lingers(&mut self) {
        if !std::mem::take(&mut self.fresh) || self.deliveries == 0 {
            return;
        }
        let Intake { read_ahead, tenant, fresh, less, .. } = &*self.intake;
        let ahead = read_ahead.ahead.load(Ordering::Acquire);
        let falls = |fresh: &AtomicUsize, to: usize| {
            let before = fresh.fetch_sub(self.deliveries, Ordering::AcqRel);
            before > to && before - self.deliveries <= to
        };
        falls(fresh, 0);
        if falls(&tenant.ahead, little(ahead) - 1) | falls(&read_ahead.fresh, enough(ahead)) {
            read_ahead.room.notify_waiters();
        }
        less.notify_one();
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.lingers();
        self.intake.read_ahead.ended.fetch_add(self.deliveries, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::outage::Tenants;

    /// The intake of a Producer that is the only one of its namespace.
    fn intake(read_ahead: &Arc<ReadAhead>) -> Arc<Intake> {
        let intake = Intake::new(read_ahead, Tenants::default().of("shop"));
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
        let few = ones(&other, little(AHEAD) - 1);
        assert_eq!(other.room().await, 1, "a namespace with few may read a few more");
        let last = ones(&other, 1);
        assert!(full(&slow).await && full(&other).await);
        let (room, ()) = tokio::join!(other.room(), async { drop(last) });
        assert_eq!(room, 1);
        drop(few);
        let (room, ()) = tokio::join!(slow.room(), async { queued.iter_mut().for_each(Places::lingers) });
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
        let intake = Intake::new(&ReadAhead::new(4), Tenants::default().of("shop"));
        assert_eq!(intake.events(1024), 8, "unknown");
        intake.saw(1000);
        assert_eq!((intake.events(2048), intake.events(10)), (2, 1));
        (0..100).for_each(|_| intake.saw(1));
        assert_eq!(intake.events(1024), 1024);
        (0..100).for_each(|_| intake.saw(0));
        assert_eq!(intake.events(1024), 1024);
    }
}
