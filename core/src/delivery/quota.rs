//! The park quota: how many deliveries of one Subscription may be parked, over all dispatchers. It keeps one
//! Subscription from filling the stream that all share.
//!
//! # Theory of operation
//!
//! Each dispatcher counts the deliveries that it parks and takes up ([`crate::delivery::health::Tally`]). So it always
//! knows its own share of the parked deliveries. It learns the shares of the others when it looks into the bucket of
//! counts. A look is a request to NATS, so a dispatcher looks rarely: each time that it has parked a tenth of the
//! quota, and, while at least half of the quota is used, when it is to park a delivery and the last look is [`STALE`]
//! old. A Subscription with few failures is hardly ever looked at.
//!
//! So more than the quota can be parked: up to a tenth of it for each dispatcher, and the deliveries that other
//! dispatchers have parked but not written to the counts yet.
//!
//! A quota for each Subscription doesn't limit a tenant, who may create any number of Subscriptions. Therefore all
//! parked deliveries together have a budget. Once half of the budget is used, the quotas shrink ([`ParkQuota::shrunk`]).
//! So Subscriptions that have parked many park no more, and Subscriptions that have parked few go on.
//!
//! A delivery beyond the quota that was not attempted stays in its stream: its Subscription goes behind. One that has
//! failed, while others of its Subscription succeed, is given up.

use std::time::Duration;

use serde::Deserialize;

use crate::delivery::health::Waiting;

/// How old a look may be once half of the quota is used.
pub const STALE: Duration = Duration::from_secs(5);

/// How many deliveries of one Subscription may be parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ParkQuota {
    /// The number of deliveries.
    pub deliveries: u32,
    /// The bytes of their events, headers and bodies.
    pub bytes: u64,
}

impl Default for ParkQuota {
    fn default() -> Self {
        Self { deliveries: 10_000, bytes: 64 << 20 }
    }
}

/// The number of parked bytes from which on no quota is left: three quarters of the budget. It lies below the whole,
/// because dispatchers learn with a delay how much the others have parked.
fn none_left_at(budget: u64) -> u64 {
    budget / 4 * 3
}

/// What a dispatcher knows about the parked deliveries of one Subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// The dispatcher's own share, now.
    pub own: Waiting,
    /// The share of all other dispatchers, at the last look.
    pub elsewhere: Waiting,
    /// What the dispatcher has parked since that look. Deliveries that it has taken up are not subtracted.
    pub parked_since: Waiting,
    /// How long ago the last look was; `None` if there was none.
    pub age: Option<Duration>,
}

/// Whether the quota has room for a delivery that is to be parked for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is room: the delivery is parked.
    Free,
    /// There is no room: the delivery is given up.
    UsedUp,
    /// What is known is too old to tell: the dispatcher has to look first.
    Look,
}

impl ParkQuota {
    /// No quota.
    pub const UNLIMITED: Self = Self { deliveries: u32::MAX, bytes: u64::MAX };

    /// The quota that is left while `used` bytes of the budget are used. The whole quota is left up to half of the
    /// budget. From there it shrinks linearly to nothing at three quarters. Even then one delivery of each Subscription
    /// may be parked.
    #[must_use]
    pub fn shrunk(self, used: u64, budget: u64) -> Self {
        let end = none_left_at(budget);
        let span = end.saturating_sub(budget / 2).max(1);
        let left = end.saturating_sub(used).min(span);
        let part = |whole: u64| u64::try_from(u128::from(whole) * u128::from(left) / u128::from(span)).unwrap_or(whole);
        let deliveries = part(u64::from(self.deliveries));
        Self { deliveries: u32::try_from(deliveries).unwrap_or(self.deliveries), bytes: part(self.bytes) }
    }

    /// Whether the quota has room for one more delivery.
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

    /// Whether `waiting` is at least one `part`-th of the quota, in deliveries or in bytes, and not nothing.
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
        Waiting { deliveries, bytes, unattempted: 0 }
    }

    #[test]
    fn room_table() {
        use Room::{Free, Look, UsedUp};
        for (own, elsewhere, since, age, want) in [
            ((0, 0), (0, 0), (0, 0), None, Free),
            ((9, 900), (0, 0), (9, 900), None, Free),
            // A tenth of the quota was parked since the last look, or since the start.
            ((10, 0), (0, 0), (10, 0), None, Look),
            ((1, 1000), (0, 0), (1, 1000), None, Look),
            // This dispatcher took up what the others had parked; what it parked itself counts all the same.
            ((-40, -4000), (0, 0), (10, 0), None, Look),
            ((49, 0), (0, 0), (0, 0), Some(3600), Free),
            ((-50, -5000), (99, 9900), (0, 0), Some(3600), Free),
            // From half of the quota on, a look may be at most 5 s old.
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
        /// A dispatcher that has just looked parks up to the quota and not beyond, whatever the others do.
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
