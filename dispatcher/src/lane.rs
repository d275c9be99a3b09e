//! A subscription's lane: how much of a dispatcher one endpoint can take. A dead endpoint takes nothing from others;
//! what will not have its turn in time is parked.
//!
//! **Under way.** A lane starts with few slots, and gets one more for each answer while deliveries wait, up to its most, as
//! TCP opens its window (RFC 5681, slow start). It gives back those that it does not use (RFC 7661), and lanes together
//! never open into the second half of what the dispatcher may have under way: that is for those that have not opened. So
//! endpoints that hang, however many attempts they took before, leave some to the others. After [`TRIP`] time-outs in a row
//! a lane lets in one delivery at a time, until one is answered and it opens anew.
//!
//! **Waiting.** To park is dear: NATS stores the event, it comes a second later at the soonest, and the park quota is for
//! endpoints that fail. So a backlog waits as long as the lane, at its pace, will have taken all of it within
//! [`START_WITHIN`]. Beyond a few, one that hangs keeps only what arrives for it within two seconds; and as each park is
//! work for NATS, what it parks comes again later.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use hookwright_core::outcome::OutcomeKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::backlog::Queued;
use crate::deliver::START_WITHIN;
use crate::slots::Slots;

/// So many lanes that have not opened take all of a dispatcher's attempts.
const LANES: usize = 64;
/// So many lanes take all room for what waits.
const WAITING_LANES: usize = 8;
/// Time-outs in a row that narrow a lane to one delivery at a time.
const TRIP: u32 = 5;
/// What has waited for so long does not hinder the reading of more.
const LINGER: Duration = Duration::from_millis(100);
/// How often it then looks at the lane's pace.
const PACE: Duration = Duration::from_secs(1);

/// What each lane may have.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Slots of a lane that has not opened.
    first: usize,
    /// And of one that has opened wide.
    most: usize,
    /// So many deliveries wait at any pace.
    patience: usize,
    /// And so many at the best.
    most_waiting: usize,
    /// What all lanes share.
    slots: Arc<Slots>,
}

/// Bounded under way, bounded waiting.
#[derive(Debug)]
pub(crate) struct Lane {
    limits: Arc<Limits>,
    /// Slots, those in use too.
    open: AtomicUsize,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Attempts that have ended.
    ended: AtomicUsize,
    timed_out: AtomicU32,
    /// Deliveries waited while no attempt ended, and none was answered since.
    hangs: AtomicBool,
}

/// A slot of the lane; free again when dropped.
pub(crate) struct Slot {
    lane: Arc<Lane>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Limits {
    /// Attempts under way, deliveries that wait at any pace, and those that may wait over all lanes.
    pub(crate) fn new(in_flight: usize, patience: usize, all_waiting: usize, slots: Arc<Slots>) -> Arc<Self> {
        let first = (slots.most() / LANES).clamp(1, in_flight);
        let most_waiting = patience.max(all_waiting / WAITING_LANES);
        Arc::new(Self { first, most: in_flight, patience, most_waiting, slots })
    }
}

impl Lane {
    pub(crate) fn new(limits: &Arc<Limits>) -> Arc<Self> {
        Arc::new(Self {
            limits: Arc::clone(limits),
            open: AtomicUsize::new(limits.first),
            slots: Arc::new(Semaphore::new(limits.first)),
            waiting: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            timed_out: AtomicU32::new(0),
            hangs: AtomicBool::new(false),
        })
    }

    /// Waits for a slot; none if the lane will not have one by `until`. Deliveries that were parked already share a budget
    /// with those of other endpoints: those that find as many waiting as may be under way at the best wait for [`LINGER`],
    /// in which a quick lane takes all of them, and for one that hangs not at all.
    pub(crate) async fn slot(
        self: &Arc<Self>,
        parked_before: bool,
        until: Instant,
        queued: &mut Option<Queued>,
    ) -> Option<Slot> {
        let (open, waiting) = (self.open.load(Ordering::Acquire), self.waiting.load(Ordering::Acquire));
        let under_way = open.saturating_sub(self.slots.available_permits());
        let crowded = parked_before && waiting >= self.limits.most;
        let full = if self.is_narrow() {
            under_way + waiting > 0
        } else {
            crowded && (waiting >= self.limits.most_waiting || self.hangs.load(Ordering::Acquire))
        };
        if full {
            return None;
        }
        let permit = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => Waiting::of(self).slot(crowded, until, queued).await?,
        };
        Some(Slot { lane: Arc::clone(self), permit: Some(permit) })
    }

    /// Whether it is of no use to come back soon.
    pub(crate) fn is_stuck(&self) -> bool {
        self.is_narrow() || self.hangs.load(Ordering::Acquire)
    }

    /// Whether the endpoint lets attempts run into their timeout.
    fn is_narrow(&self) -> bool {
        self.timed_out.load(Ordering::Acquire) >= TRIP
    }

    /// An attempt has ended.
    pub(crate) fn attempted(&self, outcome: OutcomeKind) {
        self.ended.fetch_add(1, Ordering::AcqRel);
        if outcome == OutcomeKind::TimedOut {
            self.timed_out.fetch_add(1, Ordering::AcqRel);
            return;
        }
        self.timed_out.store(0, Ordering::Release);
        self.hangs.store(false, Ordering::Release);
        let wider = |open| (open < self.limits.most).then_some(open + 1);
        if self.waiting.load(Ordering::Acquire) > 0
            && !self.limits.slots.are_scarce()
            && self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, wider).is_ok()
        {
            self.slots.add_permits(1);
        }
    }

    /// Whether a slot that becomes free is one too many.
    fn closes(&self) -> bool {
        let unused = || {
            let open = self.open.load(Ordering::Acquire);
            self.waiting.load(Ordering::Acquire) == 0 && self.slots.available_permits() >= open / 2
        };
        let least = if self.is_narrow() {
            1
        } else if self.limits.slots.are_scarce() || unused() {
            self.limits.first
        } else {
            return false;
        };
        let closer = |open| (open > least).then_some(open - 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, closer).is_ok()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take().filter(|_| self.lane.closes()) {
            permit.forget();
        }
    }
}

/// A delivery that waits for a slot, until dropped.
struct Waiting<'a>(&'a Lane);

impl<'a> Waiting<'a> {
    fn of(lane: &'a Lane) -> Self {
        lane.waiting.fetch_add(1, Ordering::AcqRel);
        Self(lane)
    }

    /// None once the lane turns out to be too slow for all that wait.
    async fn slot(&self, crowded: bool, until: Instant, queued: &mut Option<Queued>) -> Option<OwnedSemaphorePermit> {
        let Self(lane) = self;
        let mut slot = pin!(Arc::clone(&lane.slots).acquire_owned());
        if let Ok(slot) = timeout_at(until.min(Instant::now() + LINGER), &mut slot).await {
            return slot.ok();
        }
        if crowded && lane.waiting.load(Ordering::Acquire) > lane.limits.most {
            return None;
        }
        if let Some(queued) = queued {
            queued.lingers();
        }
        let before = lane.ended.load(Ordering::Acquire);
        let mut looks = 0;
        loop {
            let look = until.min(Instant::now() + PACE);
            if let Ok(slot) = timeout_at(look, &mut slot).await {
                return slot.ok();
            }
            if look == until {
                return None;
            }
            looks += 1;
            let ended = lane.ended.load(Ordering::Acquire).wrapping_sub(before);
            if ended == 0 && looks == 1 {
                // It may just take its time.
                continue;
            }
            if ended == 0 {
                lane.hangs.store(true, Ordering::Release);
            }
            let in_time = ended * (START_WITHIN.as_millis() / PACE.as_millis()) as usize / looks;
            if lane.waiting.load(Ordering::Acquire) > in_time.clamp(lane.limits.patience, lane.limits.most_waiting) {
                return None;
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::{interval, sleep};

    use super::*;

    const FIRST: usize = 2;
    const MOST: usize = 4;
    const MOST_WAITING: usize = 100;

    /// Of a dispatcher that has so many slots.
    fn lane(patience: usize, slots: &Arc<Slots>) -> Arc<Lane> {
        let slots = Arc::clone(slots);
        Lane::new(&Arc::new(Limits { first: FIRST, most: MOST, patience, most_waiting: MOST_WAITING, slots }))
    }

    async fn wait(lane: &Arc<Lane>, parked_before: bool) -> Option<Slot> {
        lane.slot(parked_before, Instant::now() + START_WITHIN, &mut None).await
    }

    fn at_once(lane: &Arc<Lane>) -> Option<Slot> {
        wait(lane, false).now_or_never().flatten()
    }

    fn all(lane: &Arc<Lane>) -> Vec<Slot> {
        std::iter::from_fn(|| at_once(lane)).collect()
    }

    fn answered(lane: &Arc<Lane>, attempts: usize, waiting: usize) {
        let waiting: Vec<Waiting<'_>> = (0..waiting).map(|_| Waiting::of(lane)).collect();
        (0..attempts).for_each(|_| lane.attempted(OutcomeKind::Rejected));
        drop(waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_leaves_when_its_time_is_over_or_the_lane_hangs() {
        let lane = lane(3, &Slots::new(100));
        let mut slots = all(&lane);
        assert_eq!(slots.len(), FIRST);
        for (waiting, waited) in [(3, START_WITHIN), (4, LINGER + PACE * 2)] {
            let others: Vec<Waiting<'_>> = (1..waiting).map(|_| Waiting::of(&lane)).collect();
            let start = Instant::now();
            assert!(wait(&lane, false).await.is_none());
            assert_eq!(start.elapsed(), waited, "{waiting}");
            assert!(lane.is_stuck());
            drop(others);
        }
        let others: Vec<Waiting<'_>> = (0..MOST).map(|_| Waiting::of(&lane)).collect();
        assert!(wait(&lane, true).now_or_never().is_some_and(|slot| slot.is_none()), "at once");
        drop(others);
        let (slot, ()) = tokio::join!(wait(&lane, true), async { drop(slots.pop()) });
        assert!(slot.is_some());
        assert_eq!(lane.waiting.load(Ordering::Acquire), 0);
        answered(&lane, 1, 0);
        assert!(!lane.is_stuck());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_parked_lingers_at_a_lane_where_many_wait() {
        let lane = lane(100, &Slots::new(100));
        let mut slots = all(&lane);
        for (waiting, waited) in [(MOST - 1, START_WITHIN), (MOST, LINGER), (MOST_WAITING, Duration::ZERO)] {
            let others: Vec<Waiting<'_>> = (0..waiting).map(|_| Waiting::of(&lane)).collect();
            lane.hangs.store(false, Ordering::Release);
            let start = Instant::now();
            assert!(wait(&lane, true).await.is_none());
            assert_eq!(start.elapsed(), waited, "{waiting}");
            drop(others);
        }
        lane.hangs.store(false, Ordering::Release);
        let others: Vec<Waiting<'_>> = (0..MOST).map(|_| Waiting::of(&lane)).collect();
        let one_ends = async {
            sleep(LINGER / 2).await;
            drop(slots.pop());
        };
        let (slot, ()) = tokio::join!(wait(&lane, true), one_ends);
        assert!(slot.is_some());
        drop(others);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_hangs_is_known_however_much_comes_due_for_it() {
        let lane = lane(3, &Slots::new(100));
        let _slots = all(&lane);
        let start = Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        let mut ticks = interval(LINGER / 50);
        while !lane.is_stuck() {
            ticks.tick().await;
            let lane = Arc::clone(&lane);
            waiting.spawn(async move { wait(&lane, true).await.is_none() });
            assert!(start.elapsed() < LINGER + PACE * 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_goes_on_is_waited_for_as_long_as_its_pace_allows() {
        let lane = lane(0, &Slots::new(100));
        let slots = all(&lane);
        // About eight end between two looks: five seconds are enough for forty.
        let mut pace = pin!(async {
            let mut ticks = interval(PACE / 8);
            loop {
                ticks.tick().await;
                lane.ended.fetch_add(1, Ordering::AcqRel);
            }
        });
        for (waiting, gives_up) in [(30, false), (50, true)] {
            let others: Vec<Waiting<'_>> = (1..waiting).map(|_| Waiting::of(&lane)).collect();
            let gave_up = tokio::select! {
                slot = wait(&lane, false) => slot.is_none(),
                () = sleep(PACE * 4) => false,
                never = &mut pace => never,
            };
            assert_eq!(gave_up, gives_up, "{waiting}");
            assert!(!lane.is_stuck());
            drop(others);
        }
        drop(slots);
        assert!(at_once(&lane).is_some());
    }

    #[tokio::test]
    async fn a_lane_opens_while_it_is_used_and_closes_when_it_is_not() {
        let lane = lane(8, &Slots::new(100));
        assert_eq!(all(&lane).len(), FIRST);
        answered(&lane, 4, 0);
        assert_eq!(all(&lane).len(), FIRST, "nobody waited");
        answered(&lane, 4, 1);
        let slots = all(&lane);
        assert_eq!(slots.len(), MOST);
        drop(slots);
        let slots = all(&lane);
        assert_eq!(slots.len(), FIRST);
    }

    #[tokio::test]
    async fn a_lane_opens_no_further_when_the_dispatcher_has_few_left() {
        let slots = Slots::new(2);
        let lane = lane(8, &slots);
        answered(&lane, 1, 1);
        let wide = all(&lane);
        assert_eq!(wide.len(), FIRST + 1);
        let taken = (slots.take().await, slots.take().await);
        answered(&lane, 4, 1);
        assert!(at_once(&lane).is_none());
        let waiting = Waiting::of(&lane);
        drop(wide);
        assert_eq!(all(&lane).len(), FIRST, "it gives back what it had");
        drop((waiting, taken));
    }

    #[tokio::test]
    async fn after_time_outs_one_at_a_time_until_it_is_answered() {
        let lane = lane(8, &Slots::new(100));
        answered(&lane, 4, 1);
        let slots = all(&lane);
        (0..TRIP).for_each(|_| lane.attempted(OutcomeKind::TimedOut));
        drop(slots);
        let probe = at_once(&lane).unwrap();
        assert!(at_once(&lane).is_none() && lane.is_stuck());
        drop(probe);
        assert!(wait(&lane, true).await.is_some());
        answered(&lane, 2, 1);
        assert_eq!(all(&lane).len(), 3);
    }
}
