//! How far the dedicated reader of a Subscription has come.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::VERSION;
use crate::nats::last_event::LastEvent;
use crate::position::Left;

/// How far the dedicated reader has come: the value of `<subscription>` in the bucket of cursors. The owner of the
/// Subscription writes it about once a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cursor {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// When the stream was created.
    pub stream_created: Timestamp,
    /// The first sequence that was not read yet.
    pub next: u64,
    /// The sequences before `next` whose deliveries were under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under_way: Vec<u64>,
    /// The last sequence of the stream when the cursor was written.
    #[serde(default)]
    pub last: u64,
    /// The last event of the stream then, by which a stream that was restored from an earlier moment is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event: Option<LastEvent>,
    /// The time of the oldest event that was not delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// The events that the stream dropped before they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    /// How many sequences were left out on request.
    #[serde(default)]
    pub skipped: u64,
    /// Whether the reader waits for its turn, because so many others catch up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub queued: bool,
}

/// Events that the stream dropped before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Missed {
    /// The first sequence that was missed.
    pub first: u64,
    /// The last sequence that was missed.
    pub last: u64,
    /// How many sequences were missed. Some of them may have been no events of the Subscription.
    pub count: u64,
    /// When the reader found out first and last.
    pub since: Timestamp,
    /// When the reader found out last.
    pub time: Timestamp,
}

impl Cursor {
    /// A cursor at the beginning of a stream.
    #[must_use]
    pub fn new(stream_created: Timestamp) -> Self {
        Self {
            version: VERSION,
            stream_created,
            next: 1,
            under_way: Vec::new(),
            last: 0,
            last_event: None,
            oldest: None,
            missed: None,
            skipped: 0,
            queued: false,
        }
    }

    /// Remembers that the stream dropped the sequences from `first` to `last`.
    pub fn miss(&mut self, first: u64, last: u64, now: Timestamp) {
        let count = last.saturating_add(1).saturating_sub(first);
        let missed = self.missed.get_or_insert(Missed { first, last, count: 0, since: now, time: now });
        missed.last = missed.last.max(last);
        missed.count = missed.count.saturating_add(count);
        missed.time = now;
    }

    /// Remembers that what waited in an earlier stream is gone. `found` is the cursor that is stored. If it is one of a
    /// later stream, that was done before. What was under way may have been delivered.
    pub fn leave(&mut self, left: &Left, found: Option<&Self>, now: Timestamp) {
        self.missed = found.and_then(|found| found.missed);
        if found.is_some_and(|found| found.stream_created > left.stream_created) {
            return;
        }
        let found = found.filter(|found| found.stream_created == left.stream_created);
        for &sequence in found.iter().flat_map(|found| &found.under_way) {
            self.miss(sequence, sequence, now);
        }
        let (next, last) = found.map_or((0, 0), |found| (found.next, found.last));
        let (from, last) = (left.from.max(next), left.last.max(last));
        if from <= last {
            self.miss(from, last, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut cursor = Cursor::new(at(1));
        let json = json!({ "version": 1, "streamCreated": "1970-01-01T00:00:01Z", "next": 1, "last": 0, "skipped": 0 });
        assert_eq!(serde_json::to_value(&cursor).unwrap(), json);
        assert_eq!(serde_json::from_value::<Cursor>(json).unwrap(), cursor);

        cursor.miss(3, 5, at(9));
        let last_event = LastEvent::of(20, at(8));
        let cursor = Cursor { next: 9, under_way: vec![6, 8], last: 20, last_event, skipped: 4, ..cursor };
        let cursor = Cursor { oldest: Some(at(2)), ..cursor };
        let text = serde_json::to_string(&cursor).unwrap();
        assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let json = json!({ "version": 1, "streamCreated": "1970-01-01T00:00:01Z", "next": 1, "later": true });
        assert!(serde_json::from_value::<Cursor>(json).is_err());
    }

    #[test]
    fn misses_add_up() {
        let mut cursor = Cursor::new(at(1));
        cursor.miss(3, 5, at(10));
        assert_eq!(cursor.missed, Some(Missed { first: 3, last: 5, count: 3, since: at(10), time: at(10) }));
        cursor.miss(9, 9, at(20));
        assert_eq!(cursor.missed, Some(Missed { first: 3, last: 9, count: 4, since: at(10), time: at(20) }));
        // An empty range and one that was known to end later change only the time.
        cursor.miss(8, 7, at(30));
        assert_eq!(cursor.missed, Some(Missed { first: 3, last: 9, count: 4, since: at(10), time: at(30) }));
        // Whatever a record says.
        cursor.miss(0, u64::MAX, at(40));
        assert_eq!(cursor.missed.unwrap().count, u64::MAX);
    }

    #[test]
    fn what_waited_in_an_earlier_stream_is_missed_once() {
        let left = Left { stream_created: at(1), from: 10, last: 10 };
        let cursor = |created, next, last, under_way: &[u64]| {
            Some(Cursor { next, last, under_way: under_way.to_vec(), ..Cursor::new(at(created)) })
        };
        for (found, missed) in [
            (None, Some((10, 10, 1))),
            // The reader of an even earlier stream has written it.
            (cursor(0, 90, 99, &[95]), Some((10, 10, 1))),
            (cursor(1, 1, 30, &[]), Some((10, 30, 21))),
            (cursor(1, 20, 30, &[15, 17]), Some((15, 30, 13))),
            (cursor(1, 31, 30, &[]), None),
            (cursor(2, 1, 3, &[2]), None),
        ] {
            let mut new = Cursor::new(at(2));
            // The same again, as a step that fails is repeated.
            for _ in 0..2 {
                new.leave(&left, found.as_ref(), at(5));
                let told = new.missed.map(|missed| (missed.first, missed.last, missed.count));
                assert_eq!(told, missed, "{found:?}");
            }
        }
    }
}
