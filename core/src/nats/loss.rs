//! Lost events: events that NATS removed from a stream before any dispatcher received them. A limit of size or age, a
//! purge or a deletion removes events.
//!
//! # How they are counted
//!
//! NATS doesn't tell what it removes. But the stream numbers the events that it stores, and the shared consumer numbers
//! its deliveries. If the consumer has passed more events in the stream than it has delivered, the others were removed
//! before it came to them. Events beyond the consumer's position that the stream no longer holds were removed, too. So
//! two looks tell how many events were lost between them. Events that were delivered before the stream dropped them
//! don't count. The count may be too low, never too high:
//!
//! - A delivery that is repeated after a crash gets a new number, and hides the loss of one event.
//! - A dispatcher delivers an event that it has in hand from memory, whatever becomes of the stream.
//!
//! In two cases the count is only an upper bound. A consumer may be restricted to some subjects of its stream: then
//! NATS doesn't tell how many of the removed events were the consumer's. Such a gap counts only if events wait and
//! nothing was delivered from one look to the next. And a consumer may have been created anew: then events that were
//! acked after the last checkpoint, and removed before the consumer came to them, look as if they were lost.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a status reports a loss of events or the replacement of a stream.
pub const TOLD_FOR: SignedDuration = SignedDuration::from_hours(24);

/// One look at a Producer's stream: at the stream first, and then at the shared consumer.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// When the consumer was created.
    pub consumer_created: Timestamp,
    /// The sequence that the consumer was created to start with, if any.
    pub start: Option<u64>,
    /// The stream sequence up to which the consumer has delivered.
    pub delivered: u64,
    /// The number of the consumer's last delivery.
    pub deliveries: u64,
    /// Whether events wait to be delivered for the first time.
    pub waits: bool,
    /// The first sequence that the stream holds; the one after the last if the stream is empty.
    pub first: u64,
    /// The last sequence that the stream gave to an event.
    pub last: u64,
    /// Whether the consumer gets all events of the stream.
    pub whole: bool,
}

/// The position of the shared consumer at a look, as the next look needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Position {
    /// When the consumer was created.
    pub consumer_created: Timestamp,
    /// The sequence up to which all events are settled: delivered, counted as lost, or not the consumer's.
    pub passed: u64,
    /// The number of the consumer's last delivery.
    pub deliveries: u64,
    /// Whether events waited to be delivered for the first time.
    pub waits: bool,
    /// Whether the consumer got all events of the stream.
    pub whole: bool,
}

/// The lost events that one look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The number of events.
    pub events: u64,
    /// Whether at least this many events were lost; otherwise the number is only an upper bound.
    pub exact: bool,
}

/// The lost events that the status reports: all that were found until the report ends, [`TOLD_FOR`] after the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Loss {
    /// The number of events.
    pub events: u64,
    /// Whether at least this many events were lost; otherwise the number is only an upper bound.
    pub exact: bool,
    /// When a look last found a loss.
    pub last: Timestamp,
}

impl Look {
    /// The last sequence before the first that the stream holds.
    const fn removed(&self) -> u64 {
        self.first.saturating_sub(1)
    }

    /// Compares this look with the position at the look before. Returns the position for the next look, and the events
    /// that were lost in between.
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

    /// The sequence up to which events are settled, and the number of lost events, if nothing is known but that all
    /// events up to `passed` are settled.
    fn gap(&self, passed: u64) -> (u64, u64) {
        let from = passed.max(self.delivered);
        if self.whole {
            (from.max(self.removed()), self.removed().saturating_sub(from))
        } else if self.waits {
            // Some events of the gap may be the consumer's; the next look tells whether anything moves.
            (from, 0)
        } else {
            // No event beyond the consumer's position is its own.
            (from.max(self.last), 0)
        }
    }

    fn went_on(&self, before: &Position) -> (u64, u64) {
        let reached = before.passed.max(self.delivered).max(self.removed());
        match self.deliveries.checked_sub(before.deliveries) {
            // A server that crashed has forgotten the last deliveries, and makes them again.
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
    /// The loss to report after a look at `now`: the old one, unless its report has ended, and the events that the look
    /// found.
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

/// Whether the status still reports at `now` what happened at `time`.
#[must_use]
pub fn is_told(time: Timestamp, now: Timestamp) -> bool {
    now.duration_since(time) < TOLD_FOR
}

#[cfg(test)]
mod tests;
