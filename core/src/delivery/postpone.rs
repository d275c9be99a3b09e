//! Deliveries that are postponed: they are parked without an attempt. One table has what each reason means.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::delivery::backoff::Jitter;
use crate::delivery::decide::{deadline, is_out_of_chances};
use crate::delivery::policy::RetryPolicy;
use crate::delivery::progress::Progress;

/// Why a delivery is parked without an attempt. Nothing that lasts keeps a due delivery at a dispatcher, because those
/// of all tenants come from one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Postponed {
    /// The lane of the Subscription has no room.
    LaneFull,
    /// The lane of the Subscription has room, but its endpoint is so slow that the delivery did not start in time.
    LaneStuck,
    /// The Subscription, or its namespace, has its share of the due deliveries that a dispatcher holds.
    NamespaceBusy,
    /// The dispatcher stops.
    Stopping,
    /// The dispatcher has lost its lease.
    LeaseLapsed,
    /// The dispatcher lacks what a connection takes: open files, buffers or memory.
    Exhausted,
    /// The dispatcher has not loaded the config under which the delivery was parked.
    ConfigBehind,
    /// The Subscription's Producer can't be served, because one of its records is missing, unreadable or can't be used.
    ProducerBarred,
    /// The Subscription is suspended, refused, disabled, or waits for its endpoint.
    Behind,
    /// The Subscription's position can't be read, so the event can't stay in its stream. A newer release may have written
    /// the position.
    PositionUnreadable,
    /// There is no record of the Subscription, and none that says that it was deleted.
    SubscriptionAbsent,
    /// The parked delivery can't be read. A newer release may have parked it.
    DeliveryUnreadable,
    /// The dispatcher has panicked at work on the delivery.
    Panicked,
    /// The event can't be read any more, because its Producer's rules have changed.
    EventUnreadable,
}

/// What a reason means.
struct Rule {
    /// The reason's name in metrics.
    name: &'static str,
    /// The wait after the first park in a row, in seconds. It doubles with each further park.
    first: u64,
    /// The longest wait, in seconds.
    longest: u64,
    /// Whether the delivery's deadline runs meanwhile, and the park quota of its Subscription applies. Both are so if
    /// the endpoint or the Producer's rules are the cause. Otherwise the delivery's Subscription is not to blame, and
    /// such new deliveries are as few as a dispatcher has in hand.
    counts: bool,
}

impl Postponed {
    fn rule(self) -> Rule {
        let (name, first, longest, counts) = match self {
            Self::LaneFull => ("lane_full", 1, 60, true),
            Self::LaneStuck => ("lane_stuck", 16, 60, true),
            Self::NamespaceBusy => ("namespace_busy", 1, 60, false),
            Self::EventUnreadable => ("event_unreadable", 5, 300, true),
            Self::Panicked => ("panicked", 10, 10, false),
            Self::Stopping => ("stopping", 1, 60, false),
            Self::LeaseLapsed => ("lease_lapsed", 1, 60, false),
            Self::Exhausted => ("exhausted", 1, 60, false),
            Self::ConfigBehind => ("config_behind", 1, 60, false),
            Self::ProducerBarred => ("producer_barred", 5, 300, false),
            // It is brought forward when the Subscription's events flow again.
            Self::Behind => ("behind", 300, 6 * 3600, false),
            Self::PositionUnreadable => ("position_unreadable", 5, 300, false),
            Self::SubscriptionAbsent => ("subscription_absent", 5, 300, false),
            Self::DeliveryUnreadable => ("delivery_unreadable", 5, 300, false),
        };
        Rule { name, first, longest, counts }
    }

    /// The name of the reason in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.rule().name
    }

    /// Whether the park quota of the Subscription applies. Though nobody's endpoint is to blame for a position that can't be
    /// read, or for what a dispatcher lacks, each new event is parked meanwhile.
    #[must_use]
    pub fn has_quota(self) -> bool {
        self.rule().counts || matches!(self, Self::PositionUnreadable | Self::Exhausted)
    }

    /// How long a delivery waits that was parked `parks` times in a row before, varied by 20 % both ways.
    #[must_use]
    pub fn wait(self, parks: u32, jitter: Jitter) -> Duration {
        let Rule { first, longest, .. } = self.rule();
        jitter.vary(Duration::from_secs(first.saturating_mul(1 << parks.min(16)).min(longest)), 20)
    }

    /// Counts one more park and returns until when the delivery waits. A delivery that has never been attempted gets a
    /// deadline here if `retry` has one. A deadline that doesn't run moves by the wait, or later ([`Self::Behind`]).
    ///
    /// Returns `None` if the delivery is given up, because its deadline has passed and it was parked again and again.
    #[must_use]
    pub fn postpone(
        self,
        progress: &mut Progress,
        retry: Option<&RetryPolicy>,
        now: Timestamp,
        jitter: Jitter,
    ) -> Option<Timestamp> {
        let counts = self.rule().counts;
        if counts && is_out_of_chances(progress, now) {
            return None;
        }
        let parks = if counts { &mut progress.parks } else { &mut progress.waits };
        let wait = SignedDuration::try_from(self.wait(*parks, jitter)).unwrap_or(SignedDuration::MAX);
        *parks = parks.saturating_add(1);
        match self {
            _ if counts => {
                progress.waits = 0;
                progress.deadline = progress.deadline.or_else(|| deadline(retry?, now));
            }
            // It moves once, by the whole time, when the delivery is brought forward.
            Self::Behind => {}
            _ => progress.deadline = progress.deadline.map(|end| end.checked_add(wait).unwrap_or(Timestamp::MAX)),
        }
        Some(now.checked_add(wait).unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::decide::LAST_CHANCES;
    use crate::delivery::millis::Millis;

    const MIDDLE: f64 = 0.5;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_double_to_the_longest() {
        for (why, waits) in [
            (Postponed::LaneFull, [1, 2, 4, 32, 60, 60]),
            (Postponed::LaneStuck, [16, 32, 60, 60, 60, 60]),
            (Postponed::ProducerBarred, [5, 10, 20, 160, 300, 300]),
        ] {
            let wait = |parks| why.wait(parks, Jitter::new(MIDDLE)).as_secs();
            assert_eq!([0, 1, 2, 5, 6, u32::MAX].map(wait), waits, "{why:?}");
        }
        assert_eq!(Postponed::LaneFull.wait(0, Jitter::new(0.0)), Duration::from_millis(800));
        assert_eq!(Postponed::LaneFull.wait(6, Jitter::new(1.0)), Duration::from_secs(72));
    }

    #[test]
    fn a_deadline_runs_only_while_the_endpoint_is_the_cause() {
        let policy = RetryPolicy { max_duration: Some(Millis::seconds(100)), ..RetryPolicy::default() };
        for (why, before, after) in [
            (Postponed::LaneFull, None, Some(at(1100))),
            (Postponed::LaneFull, Some(at(1050)), Some(at(1050))),
            (Postponed::LeaseLapsed, None, None),
            (Postponed::LeaseLapsed, Some(at(1050)), Some(at(1051))),
            (Postponed::Exhausted, Some(at(1050)), Some(at(1051))),
            (Postponed::ProducerBarred, Some(at(900)), Some(at(905))),
            (Postponed::Behind, Some(at(900)), Some(at(900))),
            (Postponed::PositionUnreadable, Some(at(1050)), Some(at(1055))),
        ] {
            let mut progress = Progress { deadline: before, ..Progress::default() };
            let until = why.postpone(&mut progress, Some(&policy), at(1000), Jitter::new(MIDDLE)).unwrap();
            assert_eq!((progress.deadline, progress.parks + progress.waits), (after, 1), "{why:?}");
            assert_eq!(until, at(1000).checked_add(why.wait(0, Jitter::new(MIDDLE))).unwrap());
        }
    }

    #[test]
    fn only_a_deadline_that_runs_ends_a_delivery() {
        for (why, parks, given_up) in [
            (Postponed::LaneFull, LAST_CHANCES, true),
            (Postponed::LaneFull, LAST_CHANCES - 1, false),
            (Postponed::SubscriptionAbsent, LAST_CHANCES, false),
        ] {
            let mut progress = Progress { parks, deadline: Some(at(1)), ..Progress::default() };
            let until = why.postpone(&mut progress, None, at(2), Jitter::new(MIDDLE));
            assert_eq!(until.is_none(), given_up, "{why:?} {parks}");
        }
    }

    #[test]
    fn what_may_come_without_end_has_a_quota() {
        for (why, has_quota) in [
            (Postponed::LaneFull, true),
            (Postponed::EventUnreadable, true),
            (Postponed::PositionUnreadable, true),
            (Postponed::Exhausted, true),
            (Postponed::Behind, false),
            (Postponed::Stopping, false),
        ] {
            assert_eq!(why.has_quota(), has_quota, "{why:?}");
        }
    }
}
