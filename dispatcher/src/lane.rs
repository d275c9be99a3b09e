//! A subscription's lane: how much of a dispatcher one endpoint can take. A dead endpoint takes nothing from others;
//! what has no place in its lane is parked.
//!
//! An endpoint that lets attempts run into their timeout holds each slot for that long. After [`TRIP`] of them in a row
//! its lane lets in one delivery at a time, until one is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use hookwright_core::outcome::OutcomeKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Time-outs in a row that narrow a lane to one delivery at a time.
const TRIP: u32 = 5;

/// Bounded in flight, bounded waiting.
#[derive(Debug)]
pub(crate) struct Lane {
    in_flight: usize,
    slots: Arc<Semaphore>,
    /// Deliveries in the lane: those that wait and those under way.
    inside: AtomicUsize,
    max_waiting: usize,
    timed_out: AtomicU32,
}

/// A place in the lane; free again when dropped.
pub(crate) struct Place {
    lane: Arc<Lane>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Lane {
    pub(crate) fn new(in_flight: usize, max_waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            in_flight,
            slots: Arc::new(Semaphore::new(in_flight)),
            inside: AtomicUsize::new(0),
            max_waiting,
            timed_out: AtomicU32::new(0),
        })
    }

    /// Takes a place; none if the lane is full. Of deliveries that were parked already only as many wait as may be
    /// under way: they share a budget with those of other endpoints.
    pub(crate) fn enter(self: &Arc<Self>, parked_before: bool) -> Option<Place> {
        let waiting = if parked_before { self.max_waiting.min(self.in_flight) } else { self.max_waiting };
        let most = if self.is_narrow() { 1 } else { self.in_flight + waiting };
        let enter = |inside| (inside < most).then_some(inside + 1);
        self.inside.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).ok()?;
        Some(Place { lane: Arc::clone(self), slot: None })
    }

    /// Whether the endpoint lets attempts run into their timeout.
    pub(crate) fn is_narrow(&self) -> bool {
        self.timed_out.load(Ordering::Acquire) >= TRIP
    }

    /// An attempt has ended.
    pub(crate) fn attempted(&self, outcome: OutcomeKind) {
        if outcome == OutcomeKind::TimedOut {
            self.timed_out.fetch_add(1, Ordering::AcqRel);
        } else {
            self.timed_out.store(0, Ordering::Release);
        }
    }
}

impl Place {
    /// Waits for a slot.
    pub(crate) async fn take_slot(&mut self) {
        // The semaphore is never closed.
        self.slot = Arc::clone(&self.lane.slots).acquire_owned().await.ok();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.inside.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_refuses_and_frees_its_places() {
        let lane = Lane::new(2, 3);
        let mut places: Vec<Place> = (0..5).map(|_| lane.enter(false).unwrap()).collect();
        assert!(lane.enter(false).is_none());
        places.pop();
        assert!(lane.enter(true).is_none(), "a parked one finds four places taken");
        assert!(lane.enter(false).is_some());
        places.truncate(3);
        assert!(lane.enter(true).is_some());
    }

    #[test]
    fn a_hanging_endpoint_gets_one_attempt_at_a_time_until_it_answers() {
        let lane = Lane::new(8, 8);
        (0..TRIP).for_each(|_| lane.attempted(OutcomeKind::TimedOut));
        let probe = lane.enter(false).unwrap();
        assert!(lane.enter(false).is_none());
        drop(probe);
        assert!(lane.enter(true).is_some());
        lane.attempted(OutcomeKind::Rejected);
        let _places = [lane.enter(false).unwrap(), lane.enter(false).unwrap()];
    }
}
