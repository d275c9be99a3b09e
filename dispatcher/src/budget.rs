//! How much a dispatcher takes in: permits for events and for their bytes, taken before a pull asks for them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound on the events in memory, by number and by bytes.
#[derive(Clone)]
pub(crate) struct Budget {
    events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// A pull asks for at least this many, if it may: each is work for the server, however few it brings.
    batch: u32,
    /// The largest message that the server lets through: no pull may ask for less.
    max_message: u32,
}

/// What a pull may bring in.
pub(crate) struct Grant {
    events: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

/// What one held event has of the budget; given back when dropped.
pub(crate) struct Share {
    _event: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

/// A pull asks for at most this many bytes.
const MAX_PULL: u32 = 16 << 20;
/// And, once there is room, for at least this many events, or for a sixteenth of all.
const BATCH: usize = 64;

impl Budget {
    /// `bytes` is at least `max_message`.
    pub(crate) fn new(events: usize, bytes: usize, max_message: u32) -> Self {
        let bytes = bytes.max(max_message as usize);
        let batch = u32::try_from((events / 16).clamp(1, BATCH)).unwrap_or(1);
        Self { events: Arc::new(Semaphore::new(events)), bytes: Arc::new(Semaphore::new(bytes)), batch, max_message }
    }

    /// Waits for room for some events, and takes room for up to `max_events`.
    pub(crate) async fn grant(&self, max_events: u32) -> Option<Grant> {
        let least = max_events.min(self.batch);
        let mut events = Arc::clone(&self.events).acquire_many_owned(least).await.ok()?;
        let mut bytes = Arc::clone(&self.bytes).acquire_many_owned(self.max_message).await.ok()?;
        take_more(&self.events, &mut events, max_events.saturating_sub(least));
        take_more(&self.bytes, &mut bytes, MAX_PULL.saturating_sub(self.max_message));
        Some(Grant { events, bytes })
    }

    /// Events held at this moment, out of `capacity`.
    pub(crate) fn held(&self, capacity: usize) -> usize {
        capacity.saturating_sub(self.events.available_permits())
    }
}

/// Halves its wish until it fits.
fn take_more(semaphore: &Arc<Semaphore>, permit: &mut OwnedSemaphorePermit, mut wish: u32) {
    while wish > 0 {
        if let Ok(more) = Arc::clone(semaphore).try_acquire_many_owned(wish) {
            permit.merge(more);
            return;
        }
        wish /= 2;
    }
}

impl Grant {
    pub(crate) fn events(&self) -> usize {
        self.events.num_permits()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.num_permits()
    }

    /// The share of an event of this size; the rest stays with the grant.
    pub(crate) fn share(&mut self, bytes: usize) -> Share {
        Share { _event: self.events.split(1), _bytes: self.bytes.split(bytes.min(self.bytes.num_permits())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_used_is_given_back() {
        let budget = Budget::new(10, 1000, 100);
        let mut grant = budget.grant(8).await.unwrap();
        assert_eq!((grant.events(), budget.held(10)), (8, 8));
        assert!(grant.bytes() >= 100);
        let share = grant.share(60);
        drop(grant);
        assert_eq!((budget.held(10), budget.bytes.available_permits()), (1, 940));
        drop(share);
        assert_eq!((budget.held(10), budget.bytes.available_permits()), (0, 1000));
    }
}
