//! How many attempts a dispatcher has under way.
//!
//! Most of an attempt is waiting for its endpoint, so there may be many. But answers that come at once are work for this
//! machine alone: the more connections take turns at it, the less of each is still in the caches when its turn comes. So of
//! the attempts that are young, only as many are under way as keep the processors busy (`make bench ONLY=B`: 512 instead
//! of 64 cost half as much CPU again).

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An attempt is young for so long.
pub(crate) const YOUNG: Duration = Duration::from_millis(4);
/// So many may be, for each processor.
const YOUNG_PER_CORE: usize = 32;

/// One for each attempt.
#[derive(Debug)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    most: usize,
    young: Arc<Semaphore>,
}

/// Free again when dropped.
pub(crate) struct Slot {
    _one: OwnedSemaphorePermit,
    young: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let young = Arc::new(Semaphore::new(cores * YOUNG_PER_CORE));
        Arc::new(Self { all: Arc::new(Semaphore::new(most)), most, young })
    }

    /// One that is free at this moment.
    pub(crate) fn try_take(&self) -> Option<Slot> {
        let young = Arc::clone(&self.young).try_acquire_owned().ok()?;
        let one = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Slot { _one: one, young: Some(young) })
    }

    /// From now on there are none: whoever waits has to do without.
    pub(crate) fn close(&self) {
        self.young.close();
        self.all.close();
    }

    /// Waits for one. None once they are closed.
    pub(crate) async fn take(&self) -> Option<Slot> {
        let young = Arc::clone(&self.young).acquire_owned().await.ok()?;
        let one = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Slot { _one: one, young: Some(young) })
    }

    /// How many are taken.
    pub(crate) fn in_use(&self) -> usize {
        self.most.saturating_sub(self.all.available_permits())
    }

    /// How many there are.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Whether more than half of them are taken.
    pub(crate) fn are_scarce(&self) -> bool {
        self.in_use() > self.most / 2
    }
}

impl Slot {
    /// Its attempt has been under way for [`YOUNG`], or has ended.
    pub(crate) fn ages(&mut self) {
        self.young = None;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;
    use tokio::task::coop::unconstrained;

    use super::*;

    #[tokio::test]
    async fn attempts_that_take_long_make_room_for_young_ones() {
        let slots = Slots::new(100_000);
        let take = || unconstrained(slots.take()).now_or_never().flatten();
        let mut young: Vec<Slot> = std::iter::from_fn(take).collect();
        let most = young.len();
        assert!(most >= YOUNG_PER_CORE && most.is_multiple_of(YOUNG_PER_CORE));
        young.iter_mut().for_each(Slot::ages);
        let more: Vec<Slot> = std::iter::from_fn(take).collect();
        assert_eq!((more.len(), slots.in_use()), (most, 2 * most));
        drop((young, more));
        assert_eq!(slots.in_use(), 0);
        let few = Slots::new(1);
        let mut one = few.take().await.unwrap();
        one.ages();
        let mut waiting = pin!(few.take());
        assert!(waiting.as_mut().now_or_never().is_none(), "all together are bounded, too");
        few.close();
        assert!(waiting.now_or_never().is_some_and(|slot| slot.is_none()) && few.try_take().is_none());
    }
}
