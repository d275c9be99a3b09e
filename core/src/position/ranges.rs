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
    /// What waited in the stream whose place this one has taken, until the owner has counted that it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
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
    /// Whether the breaker was opened because of an outage on our side: it says nothing about the endpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ours: bool,
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

/// What waited in a stream whose place another one has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Left {
    /// When the stream was created.
    pub stream_created: Timestamp,
    /// The first sequence that waited.
    pub from: u64,
    /// The last sequence that is known to have waited. The cursor may know of later ones.
    pub last: u64,
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
    /// Filters need more time than there is between the events.
    FiltersSlow,
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
            left: None,
            since: None,
            reason: None,
        }
    }

    /// The position in the stream that was created at this time, which has taken the place of an earlier one. What waited
    /// there is gone; the position says so until it is counted.
    #[must_use]
    pub fn moved_to(&self, stream_created: Timestamp) -> Self {
        if self.stream_created == stream_created {
            return self.clone();
        }
        let waited = self.ranges.first().map(|&Range { from, .. }| {
            // The event with which a start begins may never have been published.
            let last = if self.start == Some(from) { from.saturating_sub(1) } else { from };
            Left { stream_created: self.stream_created, from, last }
        });
        Self { waits: self.waits, left: self.left.or(waited), ..Self::live(stream_created) }
    }

    /// Makes the position cover what another one of this stream covered from its beginning on, if it begins later. Somebody
    /// has removed that one, and a dispatcher that didn't know it has stored this one. Returns whether it changes anything.
    pub fn include(&mut self, removed: &Self) -> bool {
        let from = |position: &Self| position.ranges.first().map(|range| range.from);
        let Some(begin) = from(removed).filter(|_| removed.stream_created == self.stream_created) else { return false };
        if from(self).is_some_and(|from| from <= begin) {
            return false;
        }
        self.ranges = vec![Range { from: begin, to: None, until: None, begun: true }];
        (self.start, self.since, self.reason) = (removed.start, removed.since, removed.reason);
        true
    }

    /// Whether the owner has nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ranges.is_empty() && self.waits.is_none() && self.left.is_none()
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
    /// Opens the endpoint's breaker, because of an outage on our side or because the endpoint fails. Once it has failed
    /// by itself, an outage no longer counts. Returns whether that changes anything.
    pub fn open_breaker(&mut self, now: Timestamp, ours: bool) -> bool {
        let waits = self.waits.get_or_insert(Waits::since(now));
        let before = *waits;
        waits.ours = ours && (waits.ours || !waits.breaker);
        waits.breaker = true;
        *waits != before
    }

    /// Whether the endpoint's breaker is open.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.waits.is_some_and(|waits| waits.breaker)
    }

    /// Closes the endpoint's breaker. Returns whether it was open. What is parked waits on until it is brought forward. A
    /// pause that the endpoint has asked for goes on: the attempt that succeeded may have begun before it.
    pub fn answered(&mut self) -> bool {
        self.waits.as_mut().is_some_and(|waits| {
            waits.ours = false;
            std::mem::take(&mut waits.breaker)
        })
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
        Self { since: now, breaker: false, ours: false, until: None }
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
mod tests;
