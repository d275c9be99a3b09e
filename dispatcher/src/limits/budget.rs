//! Limits the events that a dispatcher holds, by number and by bytes. A pull takes permits before it asks for events.
//!
//! If several readers share a budget, each may take more while it holds less than is free (dynamic thresholds,
//! Choudhury and Hahne 1998). So a single reader holds half, and the other half is there for the next one. If n readers
//! want everything, each gets one (n+1)th.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A bound on the events in memory, by number and by bytes.
pub(crate) struct Budget {
    events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// The fewest events that a pull asks for, if it may: each pull is work for the server, however few events it
    /// brings.
    batch: u32,
    /// The largest message that the server lets through. No pull may ask for fewer bytes.
    max_message: u32,
    /// What this reader holds of the budget; `None` if it need not leave any to others.
    mine: Option<Arc<Held>>,
}

/// A budget that namespaces share: each may hold no more than what is still free.
pub(crate) struct Budgets {
    all: Budget,
    of: Mutex<HashMap<String, Arc<Budget>>>,
}

/// What one of several readers holds of a budget.
#[derive(Default)]
pub(crate) struct Held {
    events: AtomicUsize,
    bytes: AtomicUsize,
    less: Notify,
}

/// The events and bytes that a pull may bring in.
pub(crate) struct Grant {
    events: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
    of: Option<Arc<Held>>,
}

/// One held event's part of the budget. It is given back when dropped.
pub(crate) struct Share {
    event: Option<OwnedSemaphorePermit>,
    bytes: Option<OwnedSemaphorePermit>,
    of: Option<Arc<Held>>,
}

/// The most bytes that a pull asks for.
const MAX_PULL: u32 = 16 << 20;
/// The fewest events that a pull asks for once there is room, unless a sixteenth of the budget is fewer.
const BATCH: usize = 64;
/// How often a reader that holds more than is free looks whether others have given some back.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// How much more a reader that holds `mine` may take while `left` is free: half of the difference, after which it holds
/// as much as is free. `None` while it holds more than three quarters of what is free, as a pull would not be worth its
/// cost.
pub(crate) fn fair(mine: usize, left: usize) -> Option<usize> {
    (mine <= left - left.div_ceil(4)).then(|| (left - mine).div_ceil(2))
}

impl Budget {
    /// A budget of this many events and bytes. It has at least `max_message` bytes.
    pub(crate) fn new(events: usize, bytes: usize, max_message: u32) -> Self {
        let bytes = bytes.max(max_message as usize);
        let batch = u32::try_from((events / 16).clamp(1, BATCH)).unwrap_or(1);
        let (events, bytes) = (Arc::new(Semaphore::new(events)), Arc::new(Semaphore::new(bytes)));
        Self { events, bytes, batch, max_message, mine: None }
    }

    /// The same budget for one of several readers, which leaves some of it to the others.
    pub(crate) fn shared(&self) -> Self {
        let (events, bytes) = (Arc::clone(&self.events), Arc::clone(&self.bytes));
        Self { events, bytes, mine: Some(Arc::default()), ..*self }
    }

    /// Waits for room for some events, then takes room for up to `max_events`.
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

    /// Waits until this reader may take more, and returns how many events.
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

    fn is_in_use(&self) -> bool {
        self.mine.as_ref().is_some_and(|mine| mine.events.load(Ordering::Acquire) > 0)
    }

    /// The number of events held now, if the budget has `capacity` events.
    pub(crate) fn held(&self, capacity: usize) -> usize {
        capacity.saturating_sub(self.events.available_permits())
    }
}

impl Budgets {
    pub(crate) fn new(all: Budget) -> Self {
        Self { all, of: Mutex::default() }
    }

    /// The budget of this namespace.
    pub(crate) fn of(&self, namespace: &str) -> Arc<Budget> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        // A namespace that holds nothing and waits for nothing is made anew.
        of.retain(|_, budget| Arc::strong_count(budget) > 1 || budget.is_in_use());
        Arc::clone(of.entry(namespace.to_owned()).or_insert_with(|| Arc::new(self.all.shared())))
    }
}

/// Takes more permits: `wish`, or half of it, and so on, whichever is free first.
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

    /// Splits off the share of an event of this size. The rest stays with the grant.
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
        // The permits are given back first, so that a reader that is woken finds them.
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
