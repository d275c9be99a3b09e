//! A subscription's lane: how much of a dispatcher one endpoint can take. A dead endpoint takes nothing from others;
//! what finds no place in its lane is parked.
//!
//! To park is dear: NATS stores the event, it comes a second later at the soonest, and the park quota is for endpoints
//! that fail. So a delivery that finds the lane full waits for a place as long as the lane, at its pace, will have taken
//! all that wait for one within [`START_WITHIN`]. A backlog is then drained at the pace of its endpoint, and one that
//! hangs takes from the others a quarter of a second of what arrives for it.
//!
//! An endpoint that lets attempts run into their timeout holds each slot for that long. After [`TRIP`] of them in a row
//! its lane lets in one delivery at a time, until one is answered.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use hookwright_core::outcome::OutcomeKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::deliver::START_WITHIN;

/// Time-outs in a row that narrow a lane to one delivery at a time.
const TRIP: u32 = 5;
/// How often a delivery without a place looks at the lane's pace.
const PACE: Duration = Duration::from_millis(250);

/// Bounded in flight, bounded waiting.
#[derive(Debug)]
pub(crate) struct Lane {
    in_flight: usize,
    slots: Arc<Semaphore>,
    /// For deliveries in the lane: those that wait for a slot and those under way.
    places: Arc<Semaphore>,
    capacity: usize,
    /// Deliveries that wait for a place.
    outside: AtomicUsize,
    /// Attempts that have ended.
    ended: AtomicUsize,
    timed_out: AtomicU32,
}

/// A place in the lane; free again when dropped.
pub(crate) struct Place {
    lane: Arc<Lane>,
    _place: OwnedSemaphorePermit,
    slot: Option<OwnedSemaphorePermit>,
}

impl Lane {
    pub(crate) fn new(in_flight: usize, max_waiting: usize) -> Arc<Self> {
        let capacity = in_flight + max_waiting;
        Arc::new(Self {
            in_flight,
            slots: Arc::new(Semaphore::new(in_flight)),
            places: Arc::new(Semaphore::new(capacity)),
            capacity,
            outside: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            timed_out: AtomicU32::new(0),
        })
    }

    /// Takes a place; none if the lane will not have one in time. Deliveries that were parked already don't wait for one,
    /// and find the lane full when twice as many are in it as may be under way: they share a budget with those of other
    /// endpoints.
    pub(crate) async fn enter(self: &Arc<Self>, parked_before: bool) -> Option<Place> {
        let inside = self.capacity - self.places.available_permits();
        let refused = if self.is_narrow() { inside > 0 } else { parked_before && inside >= self.in_flight * 2 };
        if refused {
            return None;
        }
        let places = Arc::clone(&self.places);
        let place = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) if parked_before => return None,
            Err(_) => Outside::of(self).place().await?,
        };
        Some(Place { lane: Arc::clone(self), _place: place, slot: None })
    }

    /// Whether the endpoint lets attempts run into their timeout.
    pub(crate) fn is_narrow(&self) -> bool {
        self.timed_out.load(Ordering::Acquire) >= TRIP
    }

    /// An attempt has ended.
    pub(crate) fn attempted(&self, outcome: OutcomeKind) {
        self.ended.fetch_add(1, Ordering::AcqRel);
        if outcome == OutcomeKind::TimedOut {
            self.timed_out.fetch_add(1, Ordering::AcqRel);
        } else {
            self.timed_out.store(0, Ordering::Release);
        }
    }
}

/// A delivery that waits for a place, until dropped.
struct Outside<'a>(&'a Lane);

impl<'a> Outside<'a> {
    fn of(lane: &'a Lane) -> Self {
        lane.outside.fetch_add(1, Ordering::AcqRel);
        Self(lane)
    }

    /// None once the lane turns out to be too slow for all that wait.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let Self(lane) = self;
        let mut place = pin!(Arc::clone(&lane.places).acquire_owned());
        loop {
            let before = lane.ended.load(Ordering::Acquire);
            if let Ok(place) = timeout(PACE, &mut place).await {
                return place.ok();
            }
            let ended = lane.ended.load(Ordering::Acquire).wrapping_sub(before);
            let in_time = ended * (START_WITHIN.as_millis() / PACE.as_millis()) as usize;
            if lane.outside.load(Ordering::Acquire) > in_time {
                return None;
            }
        }
    }
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        self.0.outside.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Place {
    /// Waits for a slot.
    pub(crate) async fn take_slot(&mut self) {
        // The semaphore is never closed.
        self.slot = Arc::clone(&self.lane.slots).acquire_owned().await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn enter(lane: &Arc<Lane>, count: usize) -> Vec<Place> {
        let mut places = Vec::new();
        for _ in 0..count {
            places.push(lane.enter(false).await.unwrap());
        }
        places
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_refuses_after_a_while_and_frees_its_places() {
        let lane = Lane::new(2, 3);
        let mut places = enter(&lane, 5).await;
        let start = tokio::time::Instant::now();
        assert!(lane.enter(false).await.is_none());
        assert_eq!(start.elapsed(), PACE);
        assert!(lane.enter(true).await.is_none(), "at once");
        assert_eq!(start.elapsed(), PACE);
        let (entered, ()) = tokio::join!(lane.enter(false), async { drop(places.pop()) });
        assert!(entered.is_some());
        drop(entered);
        assert!(lane.enter(true).await.is_none(), "a parked one finds four places taken");
        places.truncate(3);
        assert!(lane.enter(true).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_goes_on_is_waited_for_as_long_as_its_pace_allows() {
        let lane = Lane::new(1, 0);
        let place = lane.enter(false).await.unwrap();
        // About two end between two looks: five seconds are enough for forty.
        let pace = async {
            let mut ticks = tokio::time::interval(PACE / 2);
            loop {
                ticks.tick().await;
                lane.attempted(OutcomeKind::Delivered);
            }
        };
        let mut pace = pin!(pace);
        for (waiting, gives_up) in [(15, false), (80, true)] {
            let others: Vec<Outside<'_>> = (1..waiting).map(|_| Outside::of(&lane)).collect();
            let gave_up = tokio::select! {
                place = lane.enter(false) => place.is_none(),
                () = tokio::time::sleep(PACE * 8) => false,
                never = &mut pace => never,
            };
            assert_eq!(gave_up, gives_up, "{waiting}");
            drop(others);
        }
        drop(place);
        assert_eq!(lane.outside.load(Ordering::Acquire), 0);
        assert!(lane.enter(false).await.is_some());
    }

    #[tokio::test]
    async fn a_hanging_endpoint_gets_one_attempt_at_a_time_until_it_answers() {
        let lane = Lane::new(8, 8);
        (0..TRIP).for_each(|_| lane.attempted(OutcomeKind::TimedOut));
        let probe = lane.enter(false).await.unwrap();
        assert!(lane.enter(false).await.is_none());
        drop(probe);
        assert!(lane.enter(true).await.is_some());
        lane.attempted(OutcomeKind::Rejected);
        enter(&lane, 2).await;
    }
}
