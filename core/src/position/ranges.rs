//! The position of a Subscription: the ranges of sequences that its dedicated reader delivers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::VERSION;

/// The position of a Subscription in its Producer's stream: the value of `<subscription>` in the bucket of positions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Position {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// When the stream was created. The ranges say nothing about another stream of the same name.
    pub stream_created: Timestamp,
    /// At most two ranges, in order. Without any, the Subscription is live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
    /// The first sequence that the Subscription asked for (`spec.startFrom`), until it is live. The shared reader may
    /// still be before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// What the Subscription waits for. Meanwhile its parked deliveries are parked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
    /// When the Subscription went behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why it went behind. It is there for people; nothing depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// What a Subscription waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Waits {
    /// Since when parked deliveries wait. Their deadlines are moved by this time.
    pub since: Timestamp,
    /// Whether the endpoint's breaker is open: only probes are attempted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub breaker: bool,
    /// Until when the endpoint has asked for a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A range of sequences that the dedicated reader delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Range {
    /// The first sequence.
    pub from: u64,
    /// The first sequence after those that the shared reader skips; none while the range is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// The last sequence that the dedicated reader delivers; known once all dispatchers know of `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Whether the dedicated reader has begun with the range. From then on `from` stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begun: bool,
}

/// Why a Subscription went behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// `spec.suspend` is true.
    Suspended,
    /// The spec, or something that it refers to, can't be used as it is.
    Refused,
    /// The endpoint answered 410 Gone.
    EndpointGone,
    /// Deliveries failed for so long that the Subscription was disabled.
    Disabled,
    /// The endpoint has failed several times in a row.
    EndpointFailing,
    /// The endpoint has asked for a pause.
    RetryAfter,
    /// The endpoint takes events more slowly than they come.
    EndpointSlow,
    /// `spec.startFrom` names earlier events.
    StartFrom,
}

/// What became of an event that must not be delivered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The position covers it already: nothing is to be stored.
    Covered,
    /// The position covers it now, and has to be stored before the event is settled.
    Behind,
    /// The position can't cover it: the delivery has to be parked.
    Park,
}

/// What the owner of a Subscription sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The sequence from which the dedicated reader goes on: everything before it was delivered or stored.
    pub next: u64,
    /// Whether the Subscription's events may be delivered now.
    pub may_read: bool,
    /// The last sequence of the stream, by its leader.
    pub last: u64,
    /// How many sequences the range is closed ahead of the last: about as many as come until all dispatchers know of it.
    pub ahead: u64,
    /// Whether all live dispatchers have loaded the newest position.
    pub all_loaded: bool,
    /// The sequence up to which the shared reader has settled all events.
    pub floor: u64,
}

/// What the owner of a Subscription does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is nothing to do: the Subscription is live.
    Live,
    /// Deliver events from this sequence on, up to the last one if it is known.
    Read {
        /// The first sequence.
        from: u64,
        /// The last sequence.
        upto: Option<u64>,
    },
    /// Store the position, which [`Position::next`] has changed, and go on.
    Store,
    /// Wait until something changes.
    Wait,
}

impl Position {
    /// The position of a live Subscription.
    #[must_use]
    pub fn live(stream_created: Timestamp) -> Self {
        Self {
            version: VERSION,
            stream_created,
            ranges: Vec::new(),
            start: None,
            waits: None,
            since: None,
            reason: None,
        }
    }

    /// Whether the shared reader skips this sequence of the stream that was created at this time.
    #[must_use]
    pub fn covers(&self, stream_created: Timestamp, sequence: u64) -> bool {
        self.stream_created == stream_created && self.has(sequence)
    }

    /// Whether an event of this stream is one that the dedicated reader delivers, or comes before the start that was asked for.
    fn has(&self, sequence: u64) -> bool {
        self.start.is_some_and(|start| sequence < start) || self.ranges.iter().any(|range| range.covers(sequence))
    }

    /// Whether the last range is open.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.ranges.last().is_some_and(|range| range.to.is_none())
    }

    /// Makes the position cover an event that must not be delivered now, if it can.
    ///
    /// A range that was begun keeps its `from`, because the reader may have passed the event already. An event before
    /// the end of an earlier range may have been skipped by others and delivered by the reader, so it can't be covered
    /// by a new one.
    #[must_use]
    pub fn go_behind(&mut self, sequence: u64, now: Timestamp, reason: Reason) -> Gone {
        if self.has(sequence) {
            return Gone::Covered;
        }
        let is_open = self.is_behind();
        let closed = &self.ranges[..self.ranges.len() - usize::from(is_open)];
        if closed.iter().any(|range| range.to.is_some_and(|to| sequence < to)) {
            return Gone::Park;
        }
        let ranges = self.ranges.len();
        match self.ranges.last_mut().filter(|_| is_open) {
            Some(open) if open.begun => return Gone::Park,
            Some(open) => open.from = sequence,
            None if ranges >= 2 => return Gone::Park,
            None => {
                self.ranges.push(Range { from: sequence, to: None, until: None, begun: false });
                (self.since, self.reason) = (Some(now), Some(reason));
            }
        }
        Gone::Behind
    }

    /// What the owner does next. The second range has its turn when the first is gone.
    #[must_use]
    pub fn next(&mut self, seen: &Seen) -> Step {
        let Some(range) = self.ranges.first_mut() else { return Step::Live };
        let from = seen.next.max(range.from);
        let reads = seen.may_read && from <= seen.last;
        let last = match (range.to, range.until) {
            (None, _) => None,
            (Some(to), None) => Some(to.saturating_sub(1)),
            (Some(_), Some(until)) => Some(until),
        };
        if reads && last.is_none_or(|last| from <= last) {
            if !range.begun {
                range.begun = true;
                return Step::Store;
            }
            return Step::Read { from, upto: last };
        }
        match (range.to, range.until) {
            (None, _) if seen.may_read => {
                range.to = Some(seen.last.saturating_add(1).saturating_add(seen.ahead));
                range.begun = true;
                Step::Store
            }
            (Some(to), None) if seen.all_loaded => {
                range.until = Some(to.saturating_sub(1).max(seen.last));
                Step::Store
            }
            (Some(_), Some(until)) if from > until && seen.floor >= until => {
                self.ranges.remove(0);
                if self.ranges.is_empty() {
                    (self.start, self.since, self.reason) = (None, None, None);
                }
                Step::Store
            }
            _ => Step::Wait,
        }
    }
}

impl Position {
    /// Opens the endpoint's breaker. Returns whether it was closed.
    pub fn open_breaker(&mut self, now: Timestamp) -> bool {
        let waits = self.waits.get_or_insert(Waits::since(now));
        !std::mem::replace(&mut waits.breaker, true)
    }

    /// Whether the endpoint's breaker is open.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.waits.is_some_and(|waits| waits.breaker)
    }

    /// Closes the endpoint's breaker. Returns whether it was open. What is parked waits on until it is brought forward. A
    /// pause that the endpoint has asked for goes on: the attempt that succeeded may have begun before it.
    pub fn answered(&mut self) -> bool {
        self.waits.as_mut().is_some_and(|waits| std::mem::take(&mut waits.breaker))
    }

    /// Pauses until the endpoint wants to be asked again. Returns whether that is later than before.
    pub fn pause(&mut self, until: Timestamp, now: Timestamp) -> bool {
        let waits = self.waits.get_or_insert(Waits::since(now));
        let later = waits.until.is_none_or(|before| before < until);
        if later {
            waits.until = Some(until);
        }
        later
    }
}

impl Waits {
    /// Parked deliveries wait since `now`.
    #[must_use]
    pub const fn since(now: Timestamp) -> Self {
        Self { since: now, breaker: false, until: None }
    }

    /// Whether nothing but probes may be attempted.
    #[must_use]
    pub fn is_closed(&self, now: Timestamp) -> bool {
        self.breaker || self.until.is_some_and(|until| now < until)
    }
}

impl Range {
    fn covers(&self, sequence: u64) -> bool {
        self.from <= sequence && self.to.is_none_or(|to| sequence < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: Timestamp = Timestamp::UNIX_EPOCH;

    fn range(from: u64, to: impl Into<Option<u64>>, until: impl Into<Option<u64>>, begun: bool) -> Range {
        Range { from, to: to.into(), until: until.into(), begun }
    }

    fn position(ranges: &[Range]) -> Position {
        let (since, reason) = (Some(CREATED), Some(Reason::EndpointSlow));
        let behind = Position { since, reason, ..Position::live(CREATED) };
        if ranges.is_empty() { Position::live(CREATED) } else { Position { ranges: ranges.to_vec(), ..behind } }
    }

    #[test]
    fn covers_table() {
        let two = position(&[range(3, 6, None, true), range(8, None, None, false)]);
        let covered = |position: &Position| (1..10).filter(|&s| position.covers(CREATED, s)).collect::<Vec<_>>();
        assert_eq!(covered(&two), [3, 4, 5, 8, 9]);
        assert!(covered(&position(&[])).is_empty());
        // What the owner reads beyond `to` is delivered by the others as well.
        assert_eq!(covered(&position(&[range(2, 4, 7, true)])), [2, 3]);
        let started = Position { start: Some(2), ..position(&[range(3, None, None, true)]) };
        assert_eq!(covered(&started), [1, 3, 4, 5, 6, 7, 8, 9], "what was not asked for is skipped");
        let other = Timestamp::from_second(1).unwrap();
        assert!(!two.covers(other, 4));
        assert!(two.is_behind() && !position(&[]).is_behind() && !position(&[range(2, 4, None, true)]).is_behind());
    }

    #[test]
    fn go_behind_table() {
        use Gone::{Behind, Covered, Park};
        let (fresh, open) = (range(5, None, None, false), range(5, None, None, true));
        let (closed, ending) = (range(2, 5, None, true), range(2, 5, 7, true));
        for (ranges, sequence, want, after) in [
            (&[][..], 4, Behind, &[range(4, None, None, false)][..]),
            (&[fresh], 5, Covered, &[fresh]),
            (&[fresh], 9, Covered, &[fresh]),
            (&[fresh], 4, Behind, &[range(4, None, None, false)]),
            // The reader may have passed it.
            (&[open], 4, Park, &[open]),
            (&[closed], 4, Covered, &[closed]),
            // Others may have skipped it, and the reader is there already.
            (&[closed], 1, Park, &[closed]),
            (&[closed], 5, Behind, &[closed, range(5, None, None, false)]),
            (&[ending], 6, Behind, &[ending, range(6, None, None, false)]),
            (&[ending, range(8, None, None, false)], 6, Behind, &[ending, range(6, None, None, false)]),
            (&[ending, range(8, None, None, false)], 1, Park, &[ending, range(8, None, None, false)]),
            (&[ending, range(8, None, None, true)], 6, Park, &[ending, range(8, None, None, true)]),
            // Two ranges are the most.
            (&[ending, range(8, 9, None, true)], 9, Park, &[ending, range(8, 9, None, true)]),
        ] {
            let mut position = position(ranges);
            let gone = position.go_behind(sequence, CREATED, Reason::Suspended);
            assert_eq!((gone, &position.ranges[..]), (want, after), "{ranges:?} {sequence}");
            let new = after.len() > ranges.len();
            let reason = if new { Reason::Suspended } else { Reason::EndpointSlow };
            assert_eq!((position.since, position.reason), (Some(CREATED), Some(reason)), "{ranges:?} {sequence}");
        }
    }

    const SEEN: Seen = Seen { next: 5, may_read: true, last: 7, ahead: 0, all_loaded: true, floor: 7 };

    #[test]
    fn next_table() {
        use Step::{Live, Read, Store, Wait};
        let (fresh, open) = (range(3, None, None, false), range(3, None, None, true));
        let (closed, ending) = (range(3, 7, None, true), range(3, 7, 7, true));
        let later = range(7, None, None, false);
        let head = Seen { next: 8, ..SEEN };
        let not = Seen { may_read: false, ..SEEN };
        for (ranges, seen, want, after) in [
            (&[][..], SEEN, Live, &[][..]),
            (&[fresh], not, Wait, &[fresh]),
            (&[fresh], SEEN, Store, &[open]),
            (&[open], SEEN, Read { from: 5, upto: None }, &[open]),
            (&[open], Seen { next: 1, ..SEEN }, Read { from: 3, upto: None }, &[open]),
            (&[open], not, Wait, &[open]),
            (&[open], head, Store, &[range(3, 8, None, true)]),
            (&[open], Seen { ahead: 2, ..head }, Store, &[range(3, 10, None, true)]),
            (&[open], Seen { may_read: false, ..head }, Wait, &[open]),
            (&[closed], SEEN, Read { from: 5, upto: Some(6) }, &[closed]),
            (&[closed], Seen { next: 7, all_loaded: false, ..SEEN }, Wait, &[closed]),
            (&[closed], Seen { next: 7, last: 9, ..SEEN }, Store, &[range(3, 7, 9, true)]),
            (&[closed], Seen { next: 7, last: 6, ..SEEN }, Store, &[range(3, 7, 6, true)]),
            // `until` needs no reading, so it is stored while nothing may be read.
            (&[closed], not, Store, &[range(3, 7, 7, true)]),
            (&[ending], SEEN, Read { from: 5, upto: Some(7) }, &[ending]),
            (&[ending], Seen { next: 7, last: 6, ..SEEN }, Wait, &[ending]),
            (&[ending], not, Wait, &[ending]),
            (&[ending], Seen { floor: 6, ..head }, Wait, &[ending]),
            (&[ending], head, Store, &[]),
            // The second range has its turn when the first is gone.
            (&[ending, later], Seen { floor: 6, ..head }, Wait, &[ending, later]),
            (&[ending, later], head, Store, &[later]),
        ] {
            let mut position = position(ranges);
            let step = position.next(&seen);
            assert_eq!((step, &position.ranges[..]), (want, after), "{ranges:?} {seen:?}");
            assert_eq!(position.since.is_some(), !after.is_empty(), "{ranges:?} {seen:?}");
        }
    }

    #[test]
    fn what_comes_before_the_start_is_never_waited_for() {
        let mut started = Position { start: Some(5), ..position(&[range(5, None, None, false)]) };
        let before = started.clone();
        assert_eq!(started.go_behind(3, CREATED, Reason::EndpointSlow), Gone::Covered);
        assert_eq!(started, before);
        started.ranges = vec![range(5, 7, 7, true)];
        assert_eq!(started.next(&Seen { next: 8, ..SEEN }), Step::Store);
        assert_eq!(started, Position::live(CREATED));
    }

    #[test]
    fn a_success_closes_the_breaker_and_ends_no_pause() {
        let mut position = position(&[]);
        assert!(!position.answered() && position.open_breaker(CREATED) && !position.open_breaker(CREATED));
        let until = Timestamp::from_second(60).unwrap();
        assert!(position.pause(until, CREATED) && position.answered() && !position.answered());
        assert_eq!(position.waits, Some(Waits { since: CREATED, breaker: false, until: Some(until) }));
    }

    #[test]
    fn a_position_is_written_short() {
        let position = position(&[range(3, 7, None, true), range(9, None, None, false)]);
        let json = serde_json::json!({
            "version": 1,
            "streamCreated": "1970-01-01T00:00:00Z",
            "ranges": [{ "from": 3, "to": 7, "begun": true }, { "from": 9 }],
            "since": "1970-01-01T00:00:00Z",
            "reason": "EndpointSlow",
        });
        assert_eq!(serde_json::to_value(&position).unwrap(), json);
        assert_eq!(serde_json::from_value::<Position>(json).unwrap(), position);
        let live = serde_json::json!({ "version": 1, "streamCreated": "1970-01-01T00:00:00Z" });
        assert_eq!(serde_json::from_value::<Position>(live).unwrap(), Position::live(CREATED));
    }
}
