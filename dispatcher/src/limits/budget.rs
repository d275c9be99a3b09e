//! How much a dispatcher takes in: permits for events and for their bytes, taken before a pull asks for them.
//!
//! Of what several share, each may take while it has less than is left (dynamic thresholds, Choudhury and Hahne 1998): one
//! alone has half, and the other half is there for whoever comes; of n that want all, each has an n+1st.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A bound on the events in memory, by number and by bytes.
pub(crate) struct Budget {
    events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// A pull asks for at least this many, if it may: each is work for the server, however few it brings.
    batch: u32,
    /// The largest message that the server lets through: no pull may ask for less.
    max_message: u32,
    /// What this one holds of it, if it has to leave some to others.
    mine: Option<Arc<Held>>,
}

/// What one of several holds.
#[derive(Default)]
pub(crate) struct Held {
    events: AtomicUsize,
    bytes: AtomicUsize,
    less: Notify,
}

/// What a pull may bring in.
pub(crate) struct Grant {
    events: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
    of: Option<Arc<Held>>,
}

/// What one held event has of the budget; given back when dropped.
pub(crate) struct Share {
    event: Option<OwnedSemaphorePermit>,
    bytes: Option<OwnedSemaphorePermit>,
    of: Option<Arc<Held>>,
}

/// A pull asks for at most this many bytes.
const MAX_PULL: u32 = 16 << 20;
/// And, once there is room, for at least this many events, or for a sixteenth of all.
const BATCH: usize = 64;
/// Who has more than is left looks again so often whether the others have given some back.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// How much more may be taken by somebody who has `mine`, while `left` is left: then as much is left as they have. None
/// until it is worth a pull.
pub(crate) fn fair(mine: usize, left: usize) -> Option<usize> {
    (mine <= left - left.div_ceil(4)).then(|| (left - mine).div_ceil(2))
}

impl Budget {
    /// `bytes` is at least `max_message`.
    pub(crate) fn new(events: usize, bytes: usize, max_message: u32) -> Self {
        let bytes = bytes.max(max_message as usize);
        let batch = u32::try_from((events / 16).clamp(1, BATCH)).unwrap_or(1);
        let (events, bytes) = (Arc::new(Semaphore::new(events)), Arc::new(Semaphore::new(bytes)));
        Self { events, bytes, batch, max_message, mine: None }
    }

    /// The same one, for one of several that share it.
    pub(crate) fn shared(&self) -> Self {
        let (events, bytes) = (Arc::clone(&self.events), Arc::clone(&self.bytes));
        Self { events, bytes, mine: Some(Arc::default()), ..*self }
    }

    /// Waits for room for some events, and takes room for up to `max_events`.
    pub(crate) async fn grant(&self, max_events: u32) -> Option<Grant> {
        let max_events = self.fair().await.clamp(1, max_events);
        let least = max_events.min(self.batch);
        let mut events = Arc::clone(&self.events).acquire_many_owned(least).await.ok()?;
        let mut bytes = Arc::clone(&self.bytes).acquire_many_owned(self.max_message).await.ok()?;
        take_more(&self.events, &mut events, max_events.saturating_sub(least));
        let most = max_events.saturating_mul(self.max_message).min(MAX_PULL);
        take_more(&self.bytes, &mut bytes, most.saturating_sub(self.max_message));
        Some(Grant { events, bytes, of: self.mine.clone() })
    }

    /// Waits until this one has so little that it may take more, and returns how many events.
    async fn fair(&self) -> u32 {
        let Some(mine) = &self.mine else { return u32::MAX };
        loop {
            let less = mine.less.notified();
            let room = fair(mine.events.load(Ordering::Acquire), self.events.available_permits());
            if let Some(events) = room
                && fair(mine.bytes.load(Ordering::Acquire), self.bytes.available_permits()).is_some()
            {
                return u32::try_from(events).unwrap_or(u32::MAX);
            }
            let _ = timeout(LOOK, less).await;
        }
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
        let bytes = bytes.min(self.bytes.num_permits());
        if let Some(held) = &self.of {
            held.events.fetch_add(1, Ordering::AcqRel);
            held.bytes.fetch_add(bytes, Ordering::AcqRel);
        }
        Share { event: self.events.split(1), bytes: self.bytes.split(bytes), of: self.of.clone() }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = self.bytes.take();
        let size = bytes.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        // Whoever is told that there is less has to find it given back.
        drop((self.event.take(), bytes));
        if let Some(held) = &self.of {
            held.events.fetch_sub(1, Ordering::AcqRel);
            held.bytes.fetch_sub(size, Ordering::AcqRel);
            held.less.notify_one();
        }
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

    #[tokio::test(start_paused = true)]
    async fn one_of_several_has_half_and_leaves_the_rest() {
        let all = Budget::new(100, 500, 10);
        let (greedy, other) = (all.shared(), all.shared());
        let shares = async |budget: &Budget, bytes| {
            let mut shares = Vec::new();
            while let Ok(grant) = timeout(LOOK * 2, budget.grant(2)).await {
                let mut grant = grant.unwrap();
                shares.extend((0..grant.events()).map(|_| grant.share(bytes)));
            }
            shares
        };
        let mut half = shares(&greedy, 1).await;
        assert!((40..=50).contains(&half.len()), "{}", half.len());
        let third = shares(&other, 1).await;
        assert!((20..=34).contains(&third.len()), "{}", third.len());
        half.truncate(40);
        assert!(timeout(LOOK * 2, greedy.grant(2)).await.is_err());
        drop(third);
        assert!(timeout(LOOK * 2, greedy.grant(2)).await.is_ok(), "the others have given some back");
        half.truncate(1);
        let large = shares(&other, 10).await;
        assert!((20..=24).contains(&large.len()), "{} by their bytes", large.len());
    }
}
