//! What is noted of a stream's sequences, and a stream that was restored from an earlier moment.
//!
//! A stream that is restored from a backup may keep its name and its creation time. But it gives the sequences after the
//! backup to other events. A note such as "all up to 15 are done" would take those for done. So each note has the last
//! event that the stream had then. If the stream has another event in its place, or none, a [`Recheck`] finds out how
//! much of the note still holds.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How much the clocks of two NATS servers may differ. Events of this time may be delivered again after a restore.
const CLOCKS: SignedDuration = SignedDuration::from_secs(60);

/// The range if the whole note holds.
const HOLDS: (u64, u64) = (u64::MAX, u64::MAX);

/// The last event of a stream at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastEvent {
    /// Its sequence.
    pub sequence: u64,
    /// When NATS stored it.
    pub stored: Timestamp,
}

impl LastEvent {
    /// The last event of a stream with this state; none if the stream has never had one.
    #[must_use]
    pub fn of(sequence: u64, stored: Timestamp) -> Option<Self> {
        (sequence > 0 && stored > Timestamp::UNIX_EPOCH).then_some(Self { sequence, stored })
    }
}

/// Finds out up to which sequence a note "done up to" still holds. It asks for events of the stream, one after another.
/// The stream's leader has to answer, as a replica may lack the last ones.
///
/// Events that were stored after the noted last event are not done. Of those that the note takes for done, the ones
/// before them are. Clocks of servers differ, so events of the last minute before the noted one count as not done, too:
/// to deliver one twice is better than to lose one.
#[derive(Debug)]
pub struct Recheck {
    last: LastEvent,
    done: u64,
    /// The first sequence from which on all events are later lies here, ends included.
    range: (u64, u64),
    /// Whether the noted last event was looked for.
    looked: bool,
}

impl Recheck {
    /// Checks "done up to" in a stream that has the sequences from `first` to `end`.
    #[must_use]
    pub const fn new(last: LastEvent, done: u64, first: u64, end: u64) -> Self {
        // What the stream has now may lie beyond all that the note is about.
        let holds = done == 0 || first > last.sequence;
        Self { last, done, range: if holds { HOLDS } else { (first, end + 1) }, looked: holds }
    }

    /// The sequence from which on the first event is wanted; none once the answer is known.
    #[must_use]
    pub const fn asks(&self) -> Option<u64> {
        let (low, high) = self.range;
        if !self.looked {
            Some(self.last.sequence)
        } else if low < high {
            Some(low + (high - low) / 2)
        } else {
            None
        }
    }

    /// Takes the answer: the sequence of that event and when it was stored; none if there is no event.
    #[must_use]
    pub fn answered(mut self, found: Option<(u64, Timestamp)>) -> Self {
        let Some(asked) = self.asks() else { return self };
        if !self.looked {
            self.looked = true;
            if found == Some((self.last.sequence, self.last.stored)) {
                self.range = HOLDS;
            }
            return self;
        }
        match found {
            Some((sequence, stored)) if self.last.stored.duration_since(stored) >= CLOCKS => {
                self.range.0 = sequence + 1
            }
            _ => self.range.1 = asked,
        }
        self
    }

    /// The sequence up to which events are done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.min(self.range.0.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn t(second: u64) -> Timestamp {
        Timestamp::from_second(i64::try_from(second).unwrap()).unwrap()
    }

    /// The answer for a stream with these events (sequence, second), and how many events it took.
    fn check(last: (u64, u64), done: u64, events: &[(u64, u64)], end: u64) -> (u64, usize) {
        let first = events.first().map_or(end + 1, |(sequence, _)| *sequence);
        let mut recheck = Recheck::new(LastEvent { sequence: last.0, stored: t(last.1) }, done, first, end);
        let mut asked = 0;
        while let Some(from) = recheck.asks() {
            let found = events.iter().find(|(sequence, _)| *sequence >= from);
            recheck = recheck.answered(found.map(|(sequence, second)| (*sequence, t(*second))));
            asked += 1;
            assert!(asked < 80, "{recheck:?}");
        }
        (recheck.done(), asked)
    }

    #[test]
    fn what_is_noted_of_a_restored_stream_holds_up_to_the_backup() {
        // An event every 100 s: sequence n at n * 100.
        let old = |range: std::ops::RangeInclusive<u64>| range.map(|n| (n, n * 100)).collect::<Vec<_>>();
        let and = |mut events: Vec<(u64, u64)>, more: &[(u64, u64)]| {
            events.extend(more);
            events
        };
        let later = |range: std::ops::RangeInclusive<u64>| range.map(|n| (n, n + 5000)).collect::<Vec<_>>();
        for (what, done, events, end, want) in [
            ("as it was", 15, old(1..=15), 15, 15),
            ("gone on", 15, and(old(1..=15), &later(16..=30)), 30, 15),
            ("a consumer that lags", 3, and(old(1..=15), &later(16..=30)), 30, 3),
            ("old ones have expired", 9, old(14..=15), 15, 9),
            ("all have expired", 15, vec![], 15, 15),
            ("purged, and gone on", 15, later(16..=18), 18, 15),
            ("restored", 15, old(1..=10), 10, 10),
            ("restored, and not as far as that", 15, and(old(1..=10), &later(11..=13)), 13, 10),
            ("restored, and as far", 15, and(old(1..=10), &later(11..=15)), 15, 10),
            ("restored, and farther", 15, and(old(1..=10), &later(11..=90)), 90, 10),
            ("restored from a moment after what is done", 7, and(old(1..=10), &later(11..=90)), 90, 7),
            ("restored empty", 15, vec![], 0, 0),
            ("restored empty, and gone on", 15, later(1..=20), 20, 0),
            ("restored, and the old ones have expired", 15, later(11..=20), 20, 10),
            ("the last one was deleted", 13, old(1..=14), 15, 13),
            ("the last one was deleted, and all are done", 15, and(old(1..=14), &later(16..=20)), 20, 14),
            ("nothing is done", 0, later(1..=20), 20, 0),
        ] {
            let (done, asked) = check((15, 1500), done, &events, end);
            assert_eq!(done, want, "{what}");
            assert!(asked <= 8, "{what}: {asked}");
        }
        // Clocks that differ: an event of the last minute is delivered again.
        assert_eq!(check((15, 1500), 15, &[(1, 1400), (2, 1445), (3, 1460)], 3).0, 1);
        assert_eq!(LastEvent::of(0, t(9)), None);
        assert_eq!(LastEvent::of(9, Timestamp::MIN), None);
    }

    proptest! {
        /// Whatever of the former events the backup has, and whatever is gone: no later event is taken for done, no event
        /// that is not done counts as done, and nothing is asked for without end.
        #[test]
        fn no_later_event_counts_as_done(
            former in 1_u64..60, done in 0_u64..60, backup in 0_u64..60, more in 0_u64..60,
            gone in proptest::collection::vec(any::<bool>(), 120), spread in 0_u64..100, skew in 0_u64..25,
        ) {
            let (done, backup) = (done.min(former), backup.min(former));
            // The former ones in even seconds, the later ones in odd ones.
            let time = |n| 10_000 + n * spread * 2;
            let old = (1..=backup).map(|n| (n, time(n)));
            let new = (backup + 1..=backup + more).map(|n| (n, time(former) + 1 + 2 * n - 2 * skew));
            let events: Vec<_> = old.chain(new).filter(|(n, _)| !gone[usize::try_from(*n).unwrap()]).collect();
            let last = (former, time(former));
            let (checked, _) = check(last, done, &events, backup + more);
            prop_assert!(checked <= done);
            // If the last event is the same, it was not restored.
            let untouched = backup == former;
            let skipped = events.iter().any(|(n, _)| *n > backup && *n <= checked);
            prop_assert!(untouched || !skipped, "{checked} {events:?}");
        }
    }
}
