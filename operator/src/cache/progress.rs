//! How far a Subscription has come in its Producer's stream: its position, and the cursor of its dedicated reader.
//!
//! The mirror reports positions. A cursor is written about once a second, so nobody mirrors cursors: the room `health`
//! reads one while its Subscription is behind, and once more after that.

use hookwright_core::position::{Cursor, Position, Range, Waits};
use jiff::Timestamp;

/// How far a stream goes, by its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// When the stream was created.
    pub(crate) created: Timestamp,
    /// The last sequence that the stream gave to an event.
    pub(crate) last: u64,
}

/// How far a Subscription has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    position: Option<Position>,
    cursor: Option<Cursor>,
    /// When the cursor was read.
    read: Option<Timestamp>,
    /// How many sequences a second the dedicated reader has passed between the last two readings.
    per_second: Option<u64>,
    /// Whether the position has changed since the cursor was read.
    is_stale: bool,
}

/// What waits in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unread {
    /// The sequence with which the dedicated reader goes on.
    pub(crate) from: u64,
    /// The sequences that are still to be read, and those under way; none if nobody knows yet how far the stream goes.
    pub(crate) sequences: Option<u64>,
    /// The sequences that the dedicated reader has passed; none if nobody knows yet.
    pub(crate) passed: Option<u64>,
    /// How many of them a second, lately.
    pub(crate) per_second: Option<u64>,
}

impl Progress {
    /// Takes a new position; none if the key has gone.
    pub(crate) fn moved(&mut self, position: Option<Position>) {
        self.is_stale = position.is_some();
        self.position = position;
    }

    /// Takes the cursor as it was read at that time; none if there is no key.
    pub(crate) fn read(&mut self, cursor: Option<Cursor>, now: Timestamp) {
        self.is_stale = false;
        self.per_second = self.read.zip(self.cursor.as_ref()).zip(cursor.as_ref()).and_then(|((read, old), new)| {
            let passed = new.next.checked_sub(old.next).filter(|_| old.stream_created == new.stream_created)?;
            let millis = u64::try_from(now.duration_since(read).as_millis()).ok()?;
            passed.saturating_mul(1000).checked_div(millis)
        });
        (self.cursor, self.read) = (cursor, Some(now));
    }

    /// Whether the cursor has to be read. `head` returns how far the stream goes.
    pub(crate) fn wants_cursor(&self, head: impl FnOnce() -> Option<Head>) -> bool {
        let has_more = |position: &Position| {
            let last = || head().filter(|head| head.created == position.stream_created).map(|head| head.last);
            self.same(position).is_some_and(|cursor| last().is_some_and(|last| is_short(position, cursor, last)))
        };
        self.is_stale || self.behind().is_some() || self.position.as_ref().is_some_and(has_more)
    }

    /// Returns the position if the Subscription is behind. Once the last range is closed, new events are delivered as they
    /// come. So it is behind then only while the dedicated reader has any in hand, or has not come to them.
    pub(crate) fn behind(&self) -> Option<&Position> {
        let reads = |position: &Position| {
            let holds = |cursor: &Cursor| !cursor.under_way.is_empty() || is_short(position, cursor, cursor.last);
            !position.ranges.is_empty() && self.same(position).is_some_and(holds)
        };
        self.position.as_ref().filter(|position| position.is_behind() || reads(position))
    }

    /// Returns the cursor, if it is one of the position's stream.
    fn same(&self, position: &Position) -> Option<&Cursor> {
        self.cursor.as_ref().filter(|cursor| cursor.stream_created == position.stream_created)
    }

    /// Returns what the Subscription waits for, if only probes are sent to its endpoint.
    pub(crate) fn closed(&self, now: Timestamp) -> Option<Waits> {
        self.position.as_ref()?.waits.filter(|waits| waits.is_closed(now))
    }

    pub(crate) fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Returns what waits in the stream, or none if the Subscription is live.
    pub(crate) fn unread(&self, head: Option<Head>) -> Option<Unread> {
        let position = self.behind()?;
        let cursor = self.same(position);
        let head = head.filter(|head| head.created == position.stream_created).map(|head| head.last);
        let last = cursor.map(|cursor| cursor.last).max(head);
        let first = position.ranges.first().map_or(0, |range| range.from);
        let from = cursor.map_or(first, |cursor| cursor.next.max(first));
        let under_way = cursor.map_or(0, |cursor| cursor.under_way.len() as u64);
        let sequences = last.map(|last| {
            let unread = |range: &Range| end(range, last).saturating_add(1).saturating_sub(range.from.max(from));
            position.ranges.iter().map(unread).fold(under_way, u64::saturating_add)
        });
        let passed = cursor.map(|_| from.saturating_sub(first));
        Some(Unread { from, sequences, passed, per_second: self.per_second.filter(|passed| *passed > 0) })
    }
}

/// The last sequence of a range that the dedicated reader delivers, in a stream that goes up to `last`.
fn end(range: &Range, last: u64) -> u64 {
    range.until.or(range.to.map(|to| to.saturating_sub(1))).map_or(last, |end| end.min(last))
}

/// Whether the reader has not come to everything of the last range, in a stream that goes up to `last`.
fn is_short(position: &Position, cursor: &Cursor, last: u64) -> bool {
    position.ranges.last().is_some_and(|range| cursor.next <= end(range, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn position(ranges: &[(u64, Option<u64>, Option<u64>)]) -> Position {
        let range = |(from, to, until): &(u64, Option<u64>, Option<u64>)| Range {
            from: *from,
            to: *to,
            until: *until,
            begun: false,
        };
        Position { ranges: ranges.iter().map(range).collect(), ..Position::live(t(1)) }
    }

    #[test]
    fn counts_what_the_reader_has_still_to_read() {
        let head = |last| Some(Head { created: t(1), last });
        let open: &[_] = &[(10, None, None)];
        let two: &[_] = &[(10, Some(20), Some(24)), (40, None, None)];
        for (ranges, next, head, want) in [
            (open, None, None, (10, None)),
            (open, None, head(9), (10, Some(0))),
            (open, None, head(19), (10, Some(10))),
            (open, Some(15), None, (15, Some(18))),
            (open, Some(15), head(12), (15, Some(18))),
            (open, Some(15), head(40), (15, Some(28))),
            (open, Some(15), Some(Head { created: t(2), last: 900 }), (15, Some(18))),
            (two, Some(15), head(50), (15, Some(23))),
            (two, Some(45), head(50), (45, Some(8))),
            // Whatever a record says.
            (&[(0, Some(u64::MAX), Some(u64::MAX)), (0, None, None)], Some(0), head(u64::MAX), (0, Some(u64::MAX))),
        ] {
            let mut progress = Progress::default();
            progress.moved(Some(position(ranges)));
            if let Some(next) = next {
                progress.read(Some(Cursor { next, under_way: vec![3, 4], last: 30, ..Cursor::new(t(1)) }), t(5));
            }
            let unread = progress.unread(head).unwrap();
            assert_eq!((unread.from, unread.sequences), want, "{ranges:?} {next:?} {head:?}");
        }
    }

    #[test]
    fn tells_how_far_the_reader_has_come_and_how_fast() {
        let mut progress = Progress::default();
        progress.moved(Some(position(&[(10, None, None)])));
        let mut told = |created, next, second| {
            if let Some(next) = next {
                progress.read(Some(Cursor { next, ..Cursor::new(t(created)) }), t(second));
            }
            let unread = progress.unread(None).unwrap();
            (unread.passed, unread.per_second)
        };
        for (created, next, second, want) in [
            (1, None, 0, (None, None)),
            (1, Some(5), 10, (Some(0), None)),
            (1, Some(110), 20, (Some(100), Some(10))),
            (1, Some(110), 30, (Some(100), None)),
            (1, Some(115), 30, (Some(105), None)),
            (1, Some(100), 40, (Some(90), None)),
            (2, Some(500), 50, (None, None)),
            (1, Some(600), 60, (Some(590), None)),
            (1, Some(1600), 55, (Some(1590), None)),
        ] {
            assert_eq!(told(created, next, second), want, "{created} {next:?} {second}");
        }
    }

    #[test]
    fn once_the_last_range_is_closed_what_the_reader_has_in_hand_waits() {
        for (range, next, under_way, last, waits) in [
            ((10, Some(20), None), None, vec![], 0, None),
            ((10, Some(20), None), Some(20), vec![], 30, None),
            ((10, Some(20), None), Some(20), vec![12, 17], 30, Some(2)),
            ((10, Some(20), None), Some(16), vec![15], 17, Some(3)),
            // The stream hasn't come to the end of the range.
            ((10, Some(20), None), Some(18), vec![], 17, None),
            ((10, Some(20), Some(24)), Some(20), vec![], 30, Some(5)),
            ((10, Some(20), Some(24)), Some(25), vec![], 30, None),
            ((10, Some(20), Some(24)), Some(25), vec![24], 30, Some(1)),
        ] {
            let mut progress = Progress::default();
            progress.moved(Some(position(&[range])));
            if let Some(next) = next {
                let cursor = Cursor { next, under_way: under_way.clone(), last, ..Cursor::new(t(1)) };
                progress.read(Some(cursor), t(5));
            }
            let unread = progress.unread(None).map(|unread| unread.sequences);
            assert_eq!(unread, waits.map(Some), "{range:?} {next:?} {under_way:?} {last}");
            assert_eq!(progress.wants_cursor(|| None), next.is_none() || waits.is_some(), "{range:?} {next:?}");
            let more = |created| Some(Head { created: t(created), last: 19 });
            assert_eq!(progress.wants_cursor(|| more(1)), next.is_none_or(|next| next < 20 || waits.is_some()));
            assert_eq!(progress.wants_cursor(|| more(2)), progress.wants_cursor(|| None), "another stream");
        }
    }

    #[test]
    fn a_cursor_is_read_while_behind_and_once_after() {
        let mut progress = Progress::default();
        let wants = |progress: &Progress| progress.wants_cursor(|| None);
        assert!(!wants(&progress) && progress.unread(None).is_none());
        progress.moved(Some(position(&[(10, None, None)])));
        progress.read(Some(Cursor { next: 90, ..Cursor::new(t(0)) }), t(5));
        assert!(wants(&progress));
        assert_eq!(progress.unread(None).unwrap().from, 10, "the cursor of another stream says nothing");
        progress.moved(Some(position(&[])));
        assert!(wants(&progress) && progress.unread(None).is_none());
        progress.read(None, t(6));
        assert!(!wants(&progress));
        progress.moved(None);
        assert!(!wants(&progress));
    }
}
