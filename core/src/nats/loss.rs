//! Events that NATS removed from a stream before any dispatcher received them: dropped by a limit of size or age, purged,
//! or deleted.
//!
//! # How they are counted
//!
//! NATS doesn't say what it removes, but it numbers twice: the stream what it stores, the shared consumer what it
//! delivers. What the consumer has passed in the stream and not delivered had gone before it came there; and what the
//! stream no longer holds beyond the consumer's place has gone, too. So two looks tell how many events went in between,
//! and a stream that drops what was delivered long ago is no loss. The count may be too low, never too high:
//!
//! - a delivery that is repeated after a crash is numbered anew, and is taken for the delivery of an event that went;
//! - an event that a dispatcher has in hand is delivered from memory, whatever becomes of the stream.
//!
//! Of a consumer that is restricted to some subjects of its stream nobody knows how many of the sequences that have gone
//! were its own. There a gap counts only while something waits and nothing is delivered from one look to the next, and is
//! an upper bound. The same holds for a consumer that was made anew: what was acked after the last checkpoint and went
//! before the new one looks as if it had been lost.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a status tells of what happened to a stream.
pub const TOLD_FOR: SignedDuration = SignedDuration::from_hours(24);

/// A look at the stream, and then at the shared consumer.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// When the consumer was created.
    pub consumer_created: Timestamp,
    /// The sequence that the consumer was told to start with, if any.
    pub start: Option<u64>,
    /// The place in the stream up to which the consumer has come.
    pub delivered: u64,
    /// The number of its last delivery.
    pub deliveries: u64,
    /// Whether something waits to be delivered for the first time.
    pub waits: bool,
    /// The first sequence that the stream holds; the one after the last if it is empty.
    pub first: u64,
    /// The last sequence that was given to an event.
    pub last: u64,
    /// Whether all that the stream takes is the consumer's.
    pub whole: bool,
}

/// What has to be remembered of a look for the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Position {
    /// When the consumer was created.
    pub consumer_created: Timestamp,
    /// Up to this sequence, events were delivered, are counted as lost, or were none of the consumer's.
    pub passed: u64,
    /// The number of the consumer's last delivery.
    pub deliveries: u64,
    /// Whether something waited.
    pub waits: bool,
    /// Whether all that the stream takes was the consumer's.
    pub whole: bool,
}

/// Events that were found to have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// How many.
    pub events: u64,
    /// Whether it was no more than that; else an upper bound.
    pub exact: bool,
}

/// All that was found since it was told of last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Loss {
    /// How many events.
    pub events: u64,
    /// Whether it was no more than that; else an upper bound.
    pub exact: bool,
    /// When it was last found.
    pub last: Timestamp,
}

impl Look {
    /// Up to here the stream has been emptied from its front.
    const fn removed(&self) -> u64 {
        self.first.saturating_sub(1)
    }

    /// What has gone since the look before, and the position to go on from.
    #[must_use]
    pub fn compare(&self, before: Option<&Position>) -> (Position, Found) {
        let again = before.is_some_and(|before| before.consumer_created != self.consumer_created);
        let (passed, events) = match (before, self.start) {
            (Some(_), Some(start)) if again => self.made_anew(start),
            (Some(before), _) if !again && before.whole == self.whole => self.went_on(before),
            _ => self.gap(self.delivered),
        };
        let position = Position {
            consumer_created: self.consumer_created,
            passed,
            deliveries: self.deliveries,
            waits: self.waits,
            whole: self.whole,
        };
        (position, Found { events, exact: self.whole && !again })
    }

    /// The sequence passed, and what has gone, if everything up to a sequence is settled and there is no more to go by.
    fn gap(&self, passed: u64) -> (u64, u64) {
        let from = passed.max(self.delivered);
        if self.whole {
            (from.max(self.removed()), self.removed().saturating_sub(from))
        } else if self.waits {
            // Part of the gap may be its own; the next look tells whether anything moves.
            (from, 0)
        } else {
            // Whatever there is behind the consumer's place is not its own.
            (from.max(self.last), 0)
        }
    }

    fn went_on(&self, before: &Position) -> (u64, u64) {
        let reached = before.passed.max(self.delivered).max(self.removed());
        match self.deliveries.checked_sub(before.deliveries) {
            // A server that crashed has forgotten the last deliveries; they are made again.
            None => self.gap(before.passed),
            Some(delivered) if self.whole => (reached, (reached - before.passed).saturating_sub(delivered)),
            Some(0) if before.waits => (reached, reached - before.passed.max(self.delivered)),
            Some(_) => self.gap(before.passed),
        }
    }

    fn made_anew(&self, start: u64) -> (u64, u64) {
        let passed = start.saturating_sub(1);
        let reached = passed.max(self.delivered).max(self.removed());
        let lost = if self.whole {
            (reached - passed).saturating_sub(self.deliveries)
        } else {
            self.removed().saturating_sub(passed)
        };
        (reached, lost)
    }
}

impl Loss {
    /// With what was found at `now`; what is no longer told is forgotten.
    #[must_use]
    pub fn with(old: Option<&Self>, found: Found, now: Timestamp) -> Option<Self> {
        let old = old.filter(|old| is_told(old.last, now));
        if found.events == 0 {
            return old.cloned();
        }
        let (events, exact) = old.map_or((0, true), |old| (old.events, old.exact));
        Some(Self { events: events.saturating_add(found.events), exact: exact && found.exact, last: now })
    }
}

/// Whether what happened at that time is still told at `now`.
#[must_use]
pub fn is_told(time: Timestamp, now: Timestamp) -> bool {
    now.duration_since(time) < TOLD_FOR
}

#[cfg(test)]
mod tests;
