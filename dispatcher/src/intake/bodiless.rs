//! Messages that come without their body. A consumer that is set to `headers_only` brings events without bodies, with
//! the size of each in the header `Nats-Msg-Size`. Such an event must not be sent: it is left unacked, and the reader
//! opens the consumer anew, which it refuses while the consumer is set so.
//!
//! A publisher may have written the header itself, to an event that is empty. Such an event comes again without a body
//! after the consumer was found in order, and is then at fault itself. One that was read from the stream without a
//! consumer is at fault at once.

use std::collections::HashMap;

use async_nats::{HeaderMap, Message};

/// The detail of a dead letter whose event is empty, although it says that it is not.
pub(crate) const MISSING_BODY: &str = "the event has no body, although its header Nats-Msg-Size says that it has one";

/// The header in which the server says how large the body is that it leaves out.
const SIZE: &str = "Nats-Msg-Size";
/// How many suspected events are remembered: more than a consumer has unacked at the same time.
const MOST: usize = 1 << 16;

/// How often the consumer has to be found in order before an event that still comes without a body is at fault itself.
/// More than once, because somebody may set it wrong again and again.
const OPENINGS: u64 = 3;

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// It is as it was published, as far as one can tell.
    Whole,
    /// Its body may have been left out. It has to come again, from a consumer that was opened anew.
    Withheld,
    /// It is empty, and its publisher wrote the header.
    Missing,
}

/// The events of one consumer that came without a body.
#[derive(Default)]
pub(crate) struct Bodiless {
    /// The sequences of the suspected events, each with the value of `opened` when it first came.
    suspected: HashMap<u64, u64>,
    /// How often the consumer was found in order.
    opened: u64,
    reopen: bool,
}

impl Bodiless {
    /// The consumer was opened and found in order. What comes from now on was asked for after that.
    pub(crate) fn opened(&mut self) {
        self.opened += 1;
        self.reopen = false;
    }

    /// Judges the message with this sequence.
    pub(crate) fn judge(&mut self, sequence: u64, message: &Message) -> Body {
        if !message.headers.as_ref().is_some_and(|headers| lacks_its_body(headers, &message.payload)) {
            self.suspected.remove(&sequence);
            return Body::Whole;
        }
        if self.suspected.get(&sequence).is_some_and(|first| self.opened - first >= OPENINGS) {
            self.suspected.remove(&sequence);
            return Body::Missing;
        }
        if self.suspected.len() >= MOST {
            self.suspected.clear();
        }
        self.suspected.entry(sequence).or_insert(self.opened);
        self.reopen = true;
        Body::Withheld
    }

    /// Whether the consumer has to be opened anew.
    pub(crate) fn reopens(&self) -> bool {
        self.reopen
    }
}

/// Whether the body is empty although the headers say that it is not.
pub(crate) fn lacks_its_body(headers: &HeaderMap, body: &[u8]) -> bool {
    body.is_empty() && headers.get_all(SIZE).any(|size| size.as_str().parse::<u64>().is_ok_and(|size| size > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(size: Option<&str>, body: &'static str) -> Message {
        let headers = size.map(|size| HeaderMap::from_iter([(SIZE.parse().unwrap(), size.parse().unwrap())]));
        let payload = body.into();
        Message { subject: "a".into(), reply: None, payload, headers, status: None, description: None, length: 0 }
    }

    #[test]
    fn only_an_empty_body_that_should_not_be_empty_is_withheld() {
        for (size, body, wanted) in [
            (None, "", Body::Whole),
            (Some("0"), "", Body::Whole),
            (Some("-1"), "", Body::Whole),
            (Some("many"), "", Body::Whole),
            (Some("7"), "{}", Body::Whole),
            (Some("7"), "", Body::Withheld),
        ] {
            let mut bodiless = Bodiless::default();
            assert_eq!(bodiless.judge(1, &message(size, body)), wanted, "{size:?} {body}");
            assert_eq!(bodiless.reopens(), wanted == Body::Withheld);
            bodiless.opened();
            assert!(!bodiless.reopens());
        }
    }

    #[test]
    fn an_event_is_at_fault_when_it_is_empty_again() {
        let (mut bodiless, empty) = (Bodiless::default(), message(Some("7"), ""));
        assert_eq!(bodiless.judge(1, &empty), Body::Withheld);
        assert_eq!(bodiless.judge(2, &empty), Body::Withheld, "another one");
        assert_eq!(bodiless.judge(1, &empty), Body::Withheld, "the consumer was not opened anew");
        for _ in 1..OPENINGS {
            bodiless.opened();
            assert_eq!(bodiless.judge(1, &empty), Body::Withheld, "somebody may set it wrong again and again");
        }
        bodiless.opened();
        assert_eq!(bodiless.judge(1, &empty), Body::Missing);
        assert_eq!(bodiless.judge(2, &message(Some("7"), "{}")), Body::Whole, "the consumer was put right");
        assert_eq!(bodiless.judge(2, &empty), Body::Withheld, "and set wrong again");
    }
}
