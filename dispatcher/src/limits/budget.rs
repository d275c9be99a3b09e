//! Limits the events that a dispatcher holds, by number and by bytes. A pull takes permits before it asks for events.
//!
//! If several namespaces share a budget, each may take more while it holds less than is free (see
//! [`shares`](crate::limits::shares)). So a single one holds half, and the other half is there for the next one. If n
//! namespaces want everything, each gets one (n+1)th. The readers of a namespace share what it may have in the same way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::limits::shares::may_take;

/// A bound on the events in memory, by number and by bytes.
#[derive(Clone)]
pub(crate) struct Budget {
    events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// All events, and all bytes.
    most: (usize, usize),
    /// The fewest events that a pull asks for, if it may: each pull is work for the server, however few events it
    /// brings.
    batch: u32,
    /// The largest message that the server lets through. No pull may ask for fewer bytes.
    max_message: u32,
    /// What this reader, or its namespace, holds of the budget; `None` if it need not leave any to others.
    mine: Option<Arc<Held>>,
}

/// What a namespace, one of its readers or one of its Subscriptions holds of a budget.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// What this is a part of: of a reader or a Subscription, what its namespace holds.
    within: Option<Arc<Held>>,
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
    of: OnceLock<Arc<Held>>,
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
fn fair(mine: usize, left: usize) -> Option<usize> {
    (mine <= left - left.div_ceil(4)).then(|| (left - mine).div_ceil(2))
}

/// The same for one of the readers of a namespace that holds `namespace`. A reader may hold twice the difference of what
/// is free and what its namespace holds, so that a lone reader of a lone namespace may hold two fifths of all.
pub(crate) fn fair_within(namespace: usize, mine: usize, left: usize) -> Option<usize> {
    let of_namespace = fair(namespace, left)?;
    let of_mine = fair(mine, 2 * left.saturating_sub(namespace))?;
    Some(of_namespace.min(of_mine))
}

impl Budget {
    /// A budget of this many events and bytes. It has at least `max_message` bytes.
    pub(crate) fn new(events: usize, bytes: usize, max_message: u32) -> Self {
        let bytes = bytes.max(max_message as usize);
        let batch = u32::try_from((events / 16).clamp(1, BATCH)).unwrap_or(1);
        let most = (events, bytes);
        let (events, bytes) = (Arc::new(Semaphore::new(events)), Arc::new(Semaphore::new(bytes)));
        Self { events, bytes, most, batch, max_message, mine: None }
    }

    /// The same budget for one of several readers of this namespace.
    pub(crate) fn of_reader(&self, namespace: &Arc<Held>) -> Self {
        let (events, bytes) = (Arc::clone(&self.events), Arc::clone(&self.bytes));
        Self { events, bytes, mine: Some(Held::within(namespace)), ..*self }
    }

    /// Whether an event that has been read may be kept for a Subscription that holds `own`, by the rule of
    /// [`shares`](crate::limits::shares).
    pub(crate) fn has_place(&self, own: &Held) -> bool {
        let (events, bytes) = self.most;
        own.has_place(events, |held| &held.events) && own.has_place(bytes, |held| &held.bytes)
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
            if let Some(events) = mine.fair(|held| &held.events, &self.events)
                && mine.fair(|held| &held.bytes, &self.bytes).is_some()
            {
                return u32::try_from(events).unwrap_or(u32::MAX);
            }
            let _ = timeout(LOOK, less).await;
        }
    }

    /// The number of events held now.
    pub(crate) fn held(&self) -> usize {
        self.most.0.saturating_sub(self.events.available_permits())
    }
}

impl Held {
    /// A part of this.
    pub(crate) fn within(outer: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { within: Some(Arc::clone(outer)), ..Self::default() })
    }

    /// How much more a reader may take of what this semaphore has.
    fn fair(&self, of: impl Fn(&Self) -> &AtomicUsize, all: &Semaphore) -> Option<usize> {
        let held = |held: &Self| of(held).load(Ordering::Acquire);
        fair_within(self.within.as_deref().map_or(0, held), held(self), all.available_permits())
    }

    /// Whether a Subscription may take more, if all together may hold this much. Its namespace's part is within all.
    fn has_place(&self, most: usize, of: impl Fn(&Self) -> &AtomicUsize) -> bool {
        let held = |held: Option<&Self>| held.map_or(0, |held| of(held).load(Ordering::Acquire));
        let namespace = self.within.as_deref();
        let all = namespace.and_then(|namespace| namespace.within.as_deref());
        may_take(most.saturating_sub(held(all)), held(namespace), held(Some(self)))
    }

    fn take(&self, bytes: usize) {
        self.events.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if let Some(outer) = &self.within {
            outer.take(bytes);
        }
    }

    fn give_back(&self, bytes: usize) {
        self.events.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.less.notify_one();
        if let Some(outer) = &self.within {
            outer.give_back(bytes);
        }
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
        let share = Share { event: self.events.split(1), bytes: self.bytes.split(bytes), of: OnceLock::new() };
        if let Some(held) = &self.of {
            share.charge(held);
        }
        share
    }
}

impl Share {
    /// Counts the event for this Subscription, if it counts for nobody yet.
    pub(crate) fn charge(&self, to: &Arc<Held>) {
        if self.of.set(Arc::clone(to)).is_ok() {
            to.take(self.size());
        }
    }

    fn size(&self) -> usize {
        self.bytes.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let size = self.size();
        // The permits are given back first, so that a reader that is woken finds them.
        drop((self.event.take(), self.bytes.take()));
        if let Some(held) = self.of.get() {
            held.give_back(size);
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
        assert_eq!((grant.events(), budget.held()), (8, 8));
        assert!(grant.bytes() >= 100);
        let share = grant.share(60);
        drop(grant);
        assert_eq!((budget.held(), budget.bytes.available_permits()), (1, 940));
        drop(share);
        assert_eq!((budget.held(), budget.bytes.available_permits()), (0, 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_several_leaves_the_larger_part_to_others() {
        let all = Budget::new(100, 500, 10);
        let (greedy, other) = (all.of_reader(&Arc::default()), all.of_reader(&Arc::default()));
        let shares = async |budget: &Budget, bytes| {
            let mut shares = Vec::new();
            while let Ok(grant) = timeout(LOOK * 2, budget.grant(2)).await {
                let mut grant = grant.unwrap();
                shares.extend((0..grant.events()).map(|_| grant.share(bytes)));
            }
            shares
        };
        let mut first = shares(&greedy, 1).await;
        assert!((36..=42).contains(&first.len()), "{}", first.len());
        let second = shares(&other, 1).await;
        assert!((20..=28).contains(&second.len()), "{}", second.len());
        first.truncate(30);
        assert!(timeout(LOOK * 2, greedy.grant(2)).await.is_err());
        drop(second);
        assert!(timeout(LOOK * 2, greedy.grant(2)).await.is_ok(), "the others have given some back");
        first.truncate(1);
        let large = shares(&other, 10).await;
        assert!((17..=22).contains(&large.len()), "{} by their bytes", large.len());
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_share_first_and_then_the_readers_of_each() {
        let all = Budget::new(1000, 1 << 20, 1);
        let (greedy, other) = (Arc::<Held>::default(), Arc::<Held>::default());
        let mut held = Vec::new();
        let mut take = async |budget: &Budget| {
            let before = held.len();
            while let Ok(Some(mut grant)) = timeout(LOOK * 2, budget.grant(8)).await {
                held.extend((0..grant.events()).map(|_| grant.share(1)));
            }
            held.len() - before
        };
        let one = take(&all.of_reader(&greedy)).await;
        assert!((300..=400).contains(&one), "{one}");
        let mut of_greedy = one;
        for _ in 0..20 {
            of_greedy += take(&all.of_reader(&greedy)).await;
        }
        assert!((400..=500).contains(&of_greedy), "{of_greedy} of one namespace with many readers");
        let of_other = take(&all.of_reader(&other)).await;
        assert!(of_other >= 150, "{of_other}");
        drop(held);
        assert_eq!(greedy.events.load(Ordering::Acquire) + greedy.bytes.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn what_is_kept_is_shared_by_namespaces_and_then_by_their_subscriptions() {
        let (budget, all) = (Budget::new(100, 10_000, 10), Arc::<Held>::default());
        let (greedy, other) = (Held::within(&all), Held::within(&all));
        // What a pull has asked for is not in the way of what it brings.
        let mut grant = budget.grant(100).await.unwrap();
        let mut kept = Vec::new();
        let mut keep = |own: &Arc<Held>| {
            while budget.has_place(own) {
                let share = grant.share(10);
                share.charge(own);
                share.charge(&all);
                kept.push(share);
            }
            (own.events.load(Ordering::Acquire), own.bytes.load(Ordering::Acquire))
        };
        assert_eq!(keep(&Held::within(&greedy)), (26, 260));
        assert_eq!(keep(&Held::within(&greedy)), (13, 130));
        assert_eq!(keep(&Held::within(&other)), (16, 160));
        assert_eq!(all.events.load(Ordering::Acquire), 55, "each counts once");
        drop(kept);
        assert_eq!(all.events.load(Ordering::Acquire) + all.bytes.load(Ordering::Acquire), 0);
        let one = Budget::new(1, 10, 10);
        assert!(one.has_place(&Held::within(&greedy)), "a budget for one is used");
    }
}
