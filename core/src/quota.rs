//! The park quota: how much of one subscription may wait, over all dispatchers, so that one tenant can't fill what all
//! share.
//!
//! # Theory of operation
//!
//! Each dispatcher counts what it parks and takes up ([`crate::health::Tally`]), so it knows its own share of what waits
//! at each moment, and learns the others' when it looks into the bucket of counts. A look is a request to NATS, so there
//! are few: one after each tenth of the quota that it has parked since the last, and, while half of the quota or more is
//! used, one every [`STALE`] that something is to be parked. A subscription of which little fails is never looked at.
//!
//! So more than the quota can wait: by up to a tenth of it for each dispatcher, and by what the others have parked and
//! not written yet.

use std::time::Duration;

use serde::Deserialize;

use crate::health::Waiting;

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
