//! Deliveries that have failed, and for which the park quota has no room. An event is given up then only if it is at fault
//! itself; if its endpoint is away, it waits in the stream.
//!
//! # Theory of operation
//!
//! One failure doesn't tell which of both it is. What tells is what the endpoint does next with the Subscription's other
//! deliveries, the *neighbours*: if it takes one whose attempt began after the failure, the event is at fault. An attempt
//! that began before the failure proves nothing, for the endpoint may have gone away in between. If the neighbours fail as
//! well, the breaker opens soon. Until one of both happens, the delivery is *in doubt*. There are never many: the tenth
//! failure in a row opens the breaker.
//!
//! A doubt lasts a few seconds. If nothing is known by then, few events come, and the dedicated reader has to find out.
//! It gets the event back and tries it again, ever more rarely, and everything that comes meanwhile at once.

use std::time::Duration;

use jiff::Timestamp;

use crate::delivery::backoff::Jitter;
use crate::delivery::breaker::probe_after;

/// After this many doubts in a row that ended without an answer, the next ones last no longer.
const GROW: u32 = 3;

/// The deliveries of one Subscription that are in doubt at a dispatcher.
#[derive(Debug, Default)]
pub struct Doubts {
    open: usize,
    /// How many doubts of the dedicated reader's events have ended without an answer, one after the other.
    unanswered: u32,
    /// The latest time at which an attempt began that has succeeded.
    taken: Option<Timestamp>,
}

/// A delivery that is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// How long it lasts if nothing becomes known.
    pub wait: Duration,
    round: u32,
}

impl Doubts {
    /// A delivery is in doubt from now on. One of the `shared` reader is so for the shortest time, because it holds up the
    /// ack floor of a whole stream.
    #[must_use]
    pub fn begin(&mut self, shared: bool, jitter: Jitter) -> Doubt {
        self.open += 1;
        let round = if shared { 0 } else { self.unanswered };
        Doubt { wait: probe_after(round.min(GROW), jitter), round }
    }

    /// The delivery is no longer in doubt. `again` says whether the dedicated reader gets it back, as nothing is known.
    pub fn end(&mut self, doubt: Doubt, again: bool) {
        self.open = self.open.saturating_sub(1);
        if again {
            self.unanswered = self.unanswered.max(doubt.round.saturating_add(1));
        }
    }

    /// An attempt has succeeded that began then.
    pub fn succeeded(&mut self, began: Timestamp) {
        self.unanswered = 0;
        self.taken = self.taken.max(Some(began));
    }

    /// Whether an event whose delivery failed then is at fault: the endpoint takes others.
    #[must_use]
    pub fn is_at_fault(&self, failed: Timestamp) -> bool {
        self.taken.is_some_and(|began| failed < began)
    }

    /// Whether a delivery is in doubt, or was until the dedicated reader got it back.
    #[must_use]
    pub fn are_there(&self) -> bool {
        self.open > 0 || self.unanswered > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_what_succeeds_after_a_failure_and_began_after_it_shows_that_the_event_is_at_fault() {
        let mut doubts = Doubts::default();
        assert!(!doubts.is_at_fault(at(10)));
        for (began, at_fault) in [(9, false), (10, false), (11, true), (8, true)] {
            doubts.succeeded(at(began));
            assert_eq!(doubts.is_at_fault(at(10)), at_fault, "{began}");
        }
        assert!(!doubts.is_at_fault(at(11)));
    }

    #[test]
    fn what_the_reader_gets_back_is_tried_ever_more_rarely_until_something_succeeds() {
        let (mut doubts, jitter) = (Doubts::default(), Jitter::new(0.5));
        assert!(!doubts.are_there());
        let mut waits = Vec::new();
        for _ in 0..5 {
            // Two at a time are one round.
            let both = [doubts.begin(false, jitter), doubts.begin(false, jitter)];
            both.into_iter().for_each(|doubt| doubts.end(doubt, true));
            assert!(doubts.are_there(), "the reader has them");
            waits.push(both.map(|doubt| doubt.wait.as_secs()));
        }
        assert_eq!(waits, [[5; 2], [10; 2], [20; 2], [40; 2], [40; 2]]);
        assert_eq!(doubts.begin(true, jitter).wait.as_secs(), 5, "the shared reader waits for it");
        doubts.succeeded(at(1));
        assert!(doubts.are_there(), "one is open");
        let doubt = doubts.begin(false, jitter);
        assert_eq!(doubt.wait.as_secs(), 5);
        for _ in 0..2 {
            doubts.end(doubt, false);
        }
        assert!(!doubts.are_there());
    }
}
