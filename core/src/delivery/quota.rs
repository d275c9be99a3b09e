//! The park quota: how much of one subscription may wait, over all dispatchers, so that one tenant can't fill what all
//! share.
//!
//! # Theory of operation
//!
//! Each dispatcher counts what it parks and takes up ([`crate::delivery::health::Tally`]), so it knows its own share of what waits
//! at each moment, and learns the others' when it looks into the bucket of counts. A look is a request to NATS, so there
//! are few: one after each tenth of the quota that it has parked since the last, and, while half of the quota or more is
//! used, one every [`STALE`] that something is to be parked. A subscription of which little fails is never looked at.
//!
//! So more than the quota can wait: by up to a tenth of it for each dispatcher, and by what the others have parked and
//! not written yet.
//!
//! A quota for each subscription bounds no tenant, who may have any number of them. What all park together has a budget,
//! and from [`pause_at`] on no new events are taken in, of anyone. So once half of the budget is used, the quotas shrink
//! ([`ParkQuota::shrunk`]): whoever parks much is given up long before all have to wait, and whoever parks little goes on.

use std::time::Duration;

use serde::Deserialize;

use crate::delivery::health::Waiting;

/// How old a look may be, once half of the quota is used.
pub const STALE: Duration = Duration::from_secs(5);

/// How much of one subscription may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ParkQuota {
    /// Deliveries.
    pub deliveries: u32,
    /// Bytes of their events, headers and bodies.
    pub bytes: u64,
}

impl Default for ParkQuota {
    fn default() -> Self {
        Self { deliveries: 10_000, bytes: 64 << 20 }
    }
}

/// From how many bytes on no new events are taken in.
#[must_use]
pub fn pause_at(budget: u64) -> u64 {
    budget / 5 * 4
}

/// From how many on no quota is left: short of the pause, as dispatchers learn with a delay what the others have parked.
fn none_left_at(budget: u64) -> u64 {
    budget / 4 * 3
}

/// What a dispatcher knows of what waits of one subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// By its own count, now.
    pub own: Waiting,
    /// By the others' counts, at the last look.
    pub elsewhere: Waiting,
    /// What it has parked since that look; taking up takes nothing from it.
    pub parked_since: Waiting,
    /// How long ago that look was; none if there was none.
    pub age: Option<Duration>,
}

/// What to do with a delivery that is to be parked for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It is parked.
    Free,
    /// It is given up.
    UsedUp,
    /// What is known is too old to say: a look is due.
    Look,
}

impl ParkQuota {
    /// What is left of the quota while so many bytes of the budget are used: all of it up to a half, then less and less,
    /// in a straight line, and nothing from three quarters on. Even then one delivery of each subscription may wait.
    #[must_use]
    pub fn shrunk(self, used: u64, budget: u64) -> Self {
        let end = none_left_at(budget);
        let span = end.saturating_sub(budget / 2).max(1);
        let left = end.saturating_sub(used).min(span);
        let part = |whole: u64| u64::try_from(u128::from(whole) * u128::from(left) / u128::from(span)).unwrap_or(whole);
        let deliveries = part(u64::from(self.deliveries));
        Self { deliveries: u32::try_from(deliveries).unwrap_or(self.deliveries), bytes: part(self.bytes) }
    }

    /// Whether there is room for one more.
    #[must_use]
    pub fn room(self, known: Known) -> Room {
        let total = known.own.plus(known.elsewhere);
        let stale = known.age.is_none_or(|age| age >= STALE);
        if self.reached(known.parked_since, 10) || stale && self.reached(total, 2) {
            Room::Look
        } else if self.reached(total, 1) {
            Room::UsedUp
        } else {
            Room::Free
        }
    }

    /// Whether this is one `part`-th of the quota.
    fn reached(self, waiting: Waiting, part: u64) -> bool {
        let is = |value: i64, bound: u64| u64::try_from(value).is_ok_and(|value| value >= (bound / part).max(1));
        is(waiting.deliveries, u64::from(self.deliveries)) || is(waiting.bytes, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUOTA: ParkQuota = ParkQuota { deliveries: 100, bytes: 10_000 };

    fn waiting((deliveries, bytes): (i64, i64)) -> Waiting {
        Waiting { deliveries, bytes }
    }

    #[test]
    fn room_table() {
        use Room::{Free, Look, UsedUp};
        for (own, elsewhere, since, age, want) in [
            ((0, 0), (0, 0), (0, 0), None, Free),
            ((9, 900), (0, 0), (9, 900), None, Free),
            // A tenth since the last look, or since the start.
            ((10, 0), (0, 0), (10, 0), None, Look),
            ((1, 1000), (0, 0), (1, 1000), None, Look),
            // What the others parked was taken up here; what was parked here counts all the same.
            ((-40, -4000), (0, 0), (10, 0), None, Look),
            ((49, 0), (0, 0), (0, 0), Some(3600), Free),
            ((-50, -5000), (99, 9900), (0, 0), Some(3600), Free),
            // From half of it on, looks are no older than 5 s.
            ((50, 0), (0, 0), (0, 0), Some(4), Free),
            ((50, 0), (0, 0), (0, 0), Some(5), Look),
            ((0, 0), (0, 5000), (0, 0), Some(5), Look),
            ((30, 0), (69, 0), (0, 0), Some(0), Free),
            ((30, 0), (70, 0), (0, 0), Some(0), UsedUp),
            ((3, 9999), (0, 1), (0, 0), Some(4), UsedUp),
            ((30, 0), (70, 0), (0, 0), Some(5), Look),
        ] {
            let age = age.map(Duration::from_secs);
            let known = Known { own: waiting(own), elsewhere: waiting(elsewhere), parked_since: waiting(since), age };
            assert_eq!(QUOTA.room(known), want, "{known:?}");
        }
    }

    #[test]
    fn a_small_quota_is_one_too() {
        let one = ParkQuota { deliveries: 1, bytes: 1 };
        assert_eq!(one.room(Known::default()), Room::Free);
        let full = Known { own: waiting((1, 1)), age: Some(Duration::ZERO), ..Known::default() };
        assert_eq!(one.room(full), Room::UsedUp);
    }

    #[test]
    fn quotas_shrink_as_the_budget_is_used() {
        let quota = |deliveries, bytes| ParkQuota { deliveries, bytes };
        for (used, budget, want) in [
            (0, 1000, QUOTA),
            (500, 1000, QUOTA),
            (501, 1000, quota(99, 9960)),
            (600, 1000, quota(60, 6000)),
            (625, 1000, quota(50, 5000)),
            (749, 1000, quota(0, 40)),
            (750, 1000, quota(0, 0)),
            (u64::MAX, 1000, quota(0, 0)),
            (0, u64::MAX, QUOTA),
            (u64::MAX / 2, u64::MAX, QUOTA),
            (0, 0, quota(0, 0)),
        ] {
            assert_eq!(QUOTA.shrunk(used, budget), want, "{used} of {budget}");
        }
        let large = quota(u32::MAX, u64::MAX);
        assert_eq!(large.shrunk(0, 1 << 40), large);
    }

    #[test]
    fn one_may_always_wait() {
        let none = QUOTA.shrunk(1000, 1000);
        assert_eq!(none.room(Known::default()), Room::Free);
        let one = Known { own: waiting((1, 500)), age: Some(Duration::ZERO), ..Known::default() };
        assert_eq!(none.room(one), Room::UsedUp);
    }

    proptest! {
        /// Whatever the others do: whoever has looked just now parks up to the quota, and not beyond.
        #[test]
        fn a_fresh_look_decides(own in -500..500i64, elsewhere in -500..500i64) {
            let known = Known {
                own: waiting((own, 0)), elsewhere: waiting((elsewhere, 0)), age: Some(Duration::ZERO),
                ..Known::default()
            };
            let want = if own + elsewhere >= 100 { Room::UsedUp } else { Room::Free };
            prop_assert_eq!(QUOTA.room(known), want);
        }
    }
}
