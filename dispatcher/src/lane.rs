//! A subscription's lane: how much of a dispatcher one endpoint can take. A dead endpoint takes nothing from others;
//! what will not have its turn in time is parked.
//!
//! **Under way.** A lane starts with [`FIRST`] slots, and gets one more for each answer while deliveries wait, up to its
//! most, as TCP opens its window (RFC 5681, slow start; RFC 7661, only while it is used). So an endpoint that hangs
//! holds as many slots as it has earned, and one that is quick soon has all that it can use. After [`TRIP`] time-outs in a
//! row the lane lets in one delivery at a time, until one is answered and it opens anew.
//!
//! **Waiting.** To park is dear: NATS stores the event, it comes a second later at the soonest, and the park quota is for
//! endpoints that fail. So a backlog waits as long as the lane, at its pace, will have taken all of it within
//! [`START_WITHIN`]. Beyond a few, one that hangs keeps only what arrives for it within a second; and as each park is work
//! for NATS, what it parks comes again later.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use hookwright_core::outcome::OutcomeKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::backlog::Queued;
use crate::deliver::START_WITHIN;

/// Slots of a lane that has earned no more.
const FIRST: usize = 16;
/// Time-outs in a row that narrow a lane to one delivery at a time.
const TRIP: u32 = 5;
/// What has waited for so long does not hinder the reading of more.
const LINGER: Duration = Duration::from_millis(100);
/// How often it then looks at the lane's pace.
const PACE: Duration = Duration::from_secs(1);

/// Bounded under way, bounded waiting.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Slots, those in use too, of this many at most.
    open: AtomicUsize,
    most: usize,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// So many wait at any pace.
    patience: usize,
    /// Attempts that have ended.
    ended: AtomicUsize,
    timed_out: AtomicU32,
    /// A delivery waited while none ended, and none was answered since.
    hangs: AtomicBool,
}

/// A slot of the lane; free again when dropped.
pub(crate) struct Slot {
    lane: Arc<Lane>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Lane {
    pub(crate) fn new(in_flight: usize, patience: usize) -> Arc<Self> {
        let open = in_flight.min(FIRST);
        Arc::new(Self {
            open: AtomicUsize::new(open),
            most: in_flight,
            slots: Arc::new(Semaphore::new(open)),
            waiting: AtomicUsize::new(0),
            patience,
            ended: AtomicUsize::new(0),
            timed_out: AtomicU32::new(0),
            hangs: AtomicBool::new(false),
        })
    }

    /// Waits for a slot; none if the lane will not have one by `until`. Deliveries that were parked already find the lane
    /// full when as many wait in it as may be under way: they share a budget with those of other endpoints.
    pub(crate) async fn slot(
        self: &Arc<Self>,
        parked_before: bool,
        until: Instant,
        queued: &mut Option<Queued>,
    ) -> Option<Slot> {
        let (open, waiting) = (self.open.load(Ordering::Acquire), self.waiting.load(Ordering::Acquire));
        let under_way = open.saturating_sub(self.slots.available_permits());
        let full = if self.is_narrow() { under_way + waiting > 0 } else { parked_before && waiting >= open };
        if full {
            return None;
        }
        let permit = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => Waiting::of(self).slot(until, queued).await?,
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
        let wider = |open| (open < self.most).then_some(open + 1);
        if self.waiting.load(Ordering::Acquire) > 0
            && self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, wider).is_ok()
        {
            self.slots.add_permits(1);
        }
    }

    /// Whether a slot that becomes free is one too many.
    fn closes(&self) -> bool {
        let closer = |open| (open > 1).then_some(open - 1);
        self.is_narrow() && self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, closer).is_ok()
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
    async fn slot(&self, until: Instant, queued: &mut Option<Queued>) -> Option<OwnedSemaphorePermit> {
        let Self(lane) = self;
        let mut slot = pin!(Arc::clone(&lane.slots).acquire_owned());
        if let Ok(slot) = timeout_at(until.min(Instant::now() + LINGER), &mut slot).await {
            return slot.ok();
        }
        if let Some(queued) = queued {
            queued.lingers();
        }
        loop {
            let before = lane.ended.load(Ordering::Acquire);
            let look = until.min(Instant::now() + PACE);
            if let Ok(slot) = timeout_at(look, &mut slot).await {
                return slot.ok();
            }
            let ended = lane.ended.load(Ordering::Acquire).wrapping_sub(before);
            if ended == 0 {
                lane.hangs.store(true, Ordering::Release);
            }
            let in_time = ended * (START_WITHIN.as_millis() / PACE.as_millis()) as usize;
            if look == until || lane.waiting.load(Ordering::Acquire) > in_time.max(lane.patience) {
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

    async fn wait(lane: &Arc<Lane>, parked_before: bool) -> Option<Slot> {
        lane.slot(parked_before, Instant::now() + START_WITHIN, &mut None).await
    }

    fn at_once(lane: &Arc<Lane>) -> Option<Slot> {
        wait(lane, false).now_or_never().flatten()
    }

    fn all(lane: &Arc<Lane>) -> Vec<Slot> {
        std::iter::from_fn(|| at_once(lane)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_leaves_when_its_time_is_over_or_the_lane_too_slow() {
        let lane = Lane::new(2, 3);
        let mut slots = all(&lane);
        assert_eq!(slots.len(), 2);
        for (waiting, waited) in [(3, START_WITHIN), (4, LINGER + PACE)] {
            let others: Vec<Waiting<'_>> = (1..waiting).map(|_| Waiting::of(&lane)).collect();
            let start = Instant::now();
            assert!(wait(&lane, false).await.is_none());
            assert_eq!(start.elapsed(), waited, "{waiting}");
            assert!(lane.is_stuck());
            assert!(wait(&lane, true).now_or_never().is_some_and(|slot| slot.is_none()), "at once");
            drop(others);
        }
        let (slot, ()) = tokio::join!(wait(&lane, true), async { drop(slots.pop()) });
        assert!(slot.is_some());
        assert_eq!(lane.waiting.load(Ordering::Acquire), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_goes_on_is_waited_for_as_long_as_its_pace_allows() {
        let lane = Lane::new(1, 0);
        let slot = at_once(&lane).unwrap();
        // About eight end between two looks: five seconds are enough for forty.
        let mut pace = pin!(async {
            let mut ticks = interval(PACE / 8);
            loop {
                ticks.tick().await;
                lane.attempted(OutcomeKind::Delivered);
            }
        });
        for (waiting, gives_up) in [(30, false), (50, true)] {
            let others: Vec<Waiting<'_>> = (1..waiting).map(|_| Waiting::of(&lane)).collect();
            let gave_up = tokio::select! {
                slot = wait(&lane, false) => slot.is_none(),
                () = sleep(PACE * 3) => false,
                never = &mut pace => never,
            };
            assert_eq!(gave_up, gives_up, "{waiting}");
            assert!(!lane.is_stuck());
            drop(others);
        }
        drop(slot);
        assert!(at_once(&lane).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_opens_while_it_is_used_and_closes_when_the_endpoint_hangs() {
        let lane = Lane::new(FIRST + 2, 8);
        assert_eq!(all(&lane).len(), FIRST);
        (0..4).for_each(|_| lane.attempted(OutcomeKind::Delivered));
        assert_eq!(all(&lane).len(), FIRST, "nobody waited");
        let waiting = Waiting::of(&lane);
        (0..4).for_each(|_| lane.attempted(OutcomeKind::Rejected));
        drop(waiting);
        let slots = all(&lane);
        assert_eq!(slots.len(), FIRST + 2);
        (0..TRIP).for_each(|_| lane.attempted(OutcomeKind::TimedOut));
        drop(slots);
        let probe = at_once(&lane).unwrap();
        assert!(at_once(&lane).is_none());
        drop(probe);
        assert!(wait(&lane, true).await.is_some());
        let waiting = Waiting::of(&lane);
        (0..3).for_each(|_| lane.attempted(OutcomeKind::Rejected));
        drop(waiting);
        assert_eq!(all(&lane).len(), 4);
    }
}
