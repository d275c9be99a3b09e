//! How much of a namespace is kept in the stream of dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::VERSION;

const DAY: i64 = 24 * 3600;

/// The bytes of the dead letters of one namespace: the value of `dead.<namespace>`. Dispatchers add to it by
/// compare-and-set. It is as exact as a crash and a lost write leave it, and an upper bound of what the stream still has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetterBytes {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The bytes by the day on which they were stored, in days since 1970.
    pub days: BTreeMap<i64, u64>,
}

impl Default for DeadLetterBytes {
    fn default() -> Self {
        Self { version: VERSION, days: BTreeMap::new() }
    }
}

impl DeadLetterBytes {
    /// Counts bytes that were stored at `now`, and forgets what is older than `age`, which the stream has dropped.
    pub fn add(&mut self, bytes: u64, now: Timestamp, age: Duration) {
        let first = first_day(now, age);
        self.days.retain(|day, _| *day >= first);
        let today = self.days.entry(now.as_second().div_euclid(DAY)).or_default();
        *today = today.saturating_add(bytes);
    }

    /// The bytes that are not older than `age`. A day counts whole.
    #[must_use]
    pub fn total(&self, now: Timestamp, age: Duration) -> u64 {
        let kept = self.days.range(first_day(now, age)..);
        kept.fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

fn first_day(now: Timestamp, age: Duration) -> i64 {
    let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    now.as_second().saturating_sub(age).div_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_the_stream_has_dropped_them() {
        let age = Duration::from_secs(2 * 24 * 3600);
        let at = |day: i64, hour: i64| Timestamp::from_second(day * DAY + hour * 3600).unwrap();
        let mut bytes = DeadLetterBytes::default();
        for (day, hour, added) in [(100, 1, 5), (100, 23, 7), (101, 0, 11)] {
            bytes.add(added, at(day, hour), age);
        }
        for (day, hour, total) in [(101, 1, 23), (102, 23, 23), (103, 0, 11), (104, 0, 0)] {
            assert_eq!(bytes.total(at(day, hour), age), total, "day {day}, {hour} h");
        }
        bytes.add(1, at(103, 0), age);
        assert_eq!(bytes.days.into_iter().collect::<Vec<_>>(), [(101, 11), (103, 1)]);
    }
}
