//! A subscription's lane: how much of a dispatcher one endpoint can take. A dead endpoint takes nothing from others;
//! what has no place in its lane is parked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounded in flight, bounded waiting.
#[derive(Debug)]
pub(crate) struct Lane {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// A place in the lane's queue; free again when dropped.
pub(crate) struct Place {
    lane: Arc<Lane>,
}

impl Lane {
    pub(crate) fn new(in_flight: usize, max_waiting: usize) -> Arc<Self> {
        Arc::new(Self { slots: Arc::new(Semaphore::new(in_flight)), waiting: AtomicUsize::new(0), max_waiting })
    }

    /// Takes a place in the queue; none if it is full.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let enter = |waiting| (waiting < self.max_waiting).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).ok()?;
        Some(Place { lane: Arc::clone(self) })
    }
}

impl Place {
    /// Waits for a slot. The semaphore is never closed, so there always is one at last.
    pub(crate) async fn slot(self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.lane.slots).acquire_owned().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_lane_refuses_and_frees_its_places() {
        let lane = Lane::new(1, 2);
        let slot = lane.enter().unwrap().slot().await.unwrap();
        let (first, second) = (lane.enter().unwrap(), lane.enter().unwrap());
        assert!(lane.enter().is_none());
        drop(second);
        let third = lane.enter().unwrap();
        drop((slot, third));
        assert!(first.slot().await.is_some());
        assert_eq!(lane.waiting.load(Ordering::Acquire), 0);
    }
}
