//! Where in a stream a Subscription starts.

use async_nats::jetstream::stream::{self, RawMessage};
use hookwright_crds::Reason;
use jiff::{SignedDuration, Timestamp};

use crate::nats::jetstream::{JetStream, JsResult};
use crate::refusal::Refusal;
use crate::subscription::validate::StartAt;

/// How far the clocks of NATS and of the author of the time may be ahead of the operator's.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// The events that a stream has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// The first sequence that the stream has; the one after the last if it has none.
    first: u64,
    /// The last sequence that the stream gave to an event.
    last: u64,
    /// When the first event that the stream has was stored; when the last one was, if it has none.
    first_time: Timestamp,
}

/// Where to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// The first sequence to deliver.
    pub(super) sequence: u64,
    /// Whether earlier events were asked for that the stream no longer has, or that are not for this Subscription.
    pub(super) incomplete: bool,
}

impl Point {
    /// The same, or this sequence if that is later: earlier events were published before the grant.
    pub(super) fn not_before(self, sequence: u64) -> Self {
        let is_bounded = sequence > self.sequence;
        Self { sequence: self.sequence.max(sequence), incomplete: self.incomplete || is_bounded }
    }
}

impl Window {
    pub(super) fn of(stream: &stream::Info) -> Self {
        let state = &stream.state;
        let time = if state.messages == 0 { state.last_timestamp } else { state.first_timestamp };
        Self {
            first: if state.messages == 0 { state.last_sequence + 1 } else { state.first_sequence },
            last: state.last_sequence,
            first_time: Timestamp::from_nanosecond(time.unix_timestamp_nanos()).unwrap_or_default(),
        }
    }

    /// The sequence after the last.
    pub(super) const fn end(&self) -> u64 {
        self.last + 1
    }

    /// Whether the stream had earlier events than the first one that it has, and some of them are asked for.
    pub(super) fn lacks(&self, start: &StartAt) -> bool {
        match start {
            StartAt::New | StartAt::Earliest => false,
            StartAt::Sequence(sequence) => *sequence < self.first,
            StartAt::Time(time) if self.first > self.last => self.last > 0 && *time <= self.first_time,
            StartAt::Time(time) => self.first > 1 && *time < self.first_time,
        }
    }
}

/// Finds the sequence to start with, or says why there is none. The leader of the stream is asked for times.
pub(super) async fn find(
    start: &StartAt,
    window: &Window,
    now: Timestamp,
    stream: &str,
    js: &JetStream,
) -> JsResult<Result<Point, Refusal>> {
    let sequence = match start {
        StartAt::New => window.end(),
        StartAt::Earliest => window.first,
        StartAt::Sequence(sequence) if *sequence > window.end() => {
            let (last, sequence) = (window.last, *sequence);
            let message = format!(
                "startFrom.sequence is {sequence}, and the stream has come to {last}. Nothing is delivered until it has \
                 come to the sequence before. To start earlier, create the Subscription again."
            );
            return Ok(Err(Refusal::new(Reason::StartInFuture, message)));
        }
        StartAt::Sequence(sequence) => (*sequence).max(window.first),
        StartAt::Time(time) if *time > now.saturating_add(AHEAD).unwrap_or(now) => {
            let message = format!(
                "startFrom.time is in the future: {time}. Nothing is delivered until then. To start earlier, create the \
                 Subscription again."
            );
            return Ok(Err(Refusal::new(Reason::StartInFuture, message)));
        }
        StartAt::Time(time) if window.first > window.last || *time <= window.first_time => window.first,
        StartAt::Time(time) => {
            let mut search = Search { low: window.first, high: window.end(), time: *time };
            while let Some(from) = search.ask() {
                let message = js.next_message(stream, from, ">").await?;
                let time = |message: &RawMessage| Timestamp::from_nanosecond(message.time.unix_timestamp_nanos());
                search.told(message.map(|message| (message.sequence, time(&message).unwrap_or_default())));
            }
            search.low
        }
    };
    Ok(Ok(Point { sequence, incomplete: window.lacks(start) }))
}

/// The search for the first event that was stored at a time or later. It ends when `low` is its sequence, or the one after
/// the last event if there is none.
struct Search {
    /// All events before this sequence were stored earlier.
    low: u64,
    /// The events from this sequence on were stored at the time or later.
    high: u64,
    time: Timestamp,
}

impl Search {
    /// Returns the sequence from which on the first event is to be looked at, or none at the end.
    const fn ask(&self) -> Option<u64> {
        if self.low < self.high { Some(self.low + (self.high - self.low) / 2) } else { None }
    }

    /// Takes sequence and time of the first event from the asked sequence on. Sequences may be missing in between.
    fn told(&mut self, found: Option<(u64, Timestamp)>) {
        let Some(asked) = self.ask() else { return };
        match found {
            Some((sequence, stored)) if stored < self.time => self.low = sequence + 1,
            // The event itself, or a gap before it.
            Some(_) | None => self.high = asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    async fn point(start: StartAt, first: u64, last: u64, first_time: i64) -> Result<Point, Refusal> {
        let window = Window { first, last, first_time: t(first_time) };
        find(&start, &window, t(1_000), "unasked", &JetStream::default()).await.unwrap()
    }

    #[tokio::test]
    async fn starts_by_the_window_of_the_stream() {
        use StartAt::{Earliest, Sequence, Time};
        let whole = |sequence| Ok(Point { sequence, incomplete: false });
        let part = |sequence| Ok(Point { sequence, incomplete: true });
        for (start, first, last, first_time, want) in [
            (Earliest, 5, 9, 100, whole(5)),
            (Earliest, 10, 9, 100, whole(10)),
            (Earliest, 1, 0, 0, whole(1)),
            (Sequence(7), 5, 9, 100, whole(7)),
            (Sequence(10), 5, 9, 100, whole(10)),
            (Sequence(4), 5, 9, 100, part(5)),
            (Sequence(9), 10, 9, 100, part(10)),
            (Sequence(1), 1, 0, 0, whole(1)),
            (Time(t(100)), 5, 9, 100, whole(5)),
            (Time(t(99)), 5, 9, 100, part(5)),
            (Time(t(99)), 1, 9, 100, whole(1)),
            (Time(t(100)), 10, 9, 100, part(10)),
            (Time(t(101)), 10, 9, 100, whole(10)),
            (Time(t(1_050)), 10, 9, 100, whole(10)),
            (Time(t(50)), 1, 0, 0, whole(1)),
        ] {
            assert_eq!(point(start.clone(), first, last, first_time).await, want, "{start:?} in {first} to {last}");
        }
        for (start, message) in [
            (Sequence(11), "startFrom.sequence is 11, and the stream has come to 9."),
            (Time(t(1_061)), "startFrom.time is in the future: 1970-01-01T00:17:41Z."),
        ] {
            let refusal = point(start, 5, 9, 100).await.unwrap_err();
            assert_eq!(refusal.reason, Reason::StartInFuture);
            assert!(refusal.message.starts_with(message), "{}", refusal.message);
        }
    }

    #[test]
    fn finds_the_first_event_of_a_time_over_gaps() {
        let events = [(5, 10), (6, 10), (20, 30), (21, 30), (22, 31), (40, 50)];
        let look = |from| {
            let found = events.iter().find(|(sequence, _)| *sequence >= from);
            found.map(|(sequence, second)| (*sequence, t(*second)))
        };
        for (time, want) in [(9, 5), (10, 5), (11, 20), (30, 20), (31, 22), (32, 40), (50, 40), (51, 41)] {
            let mut search = Search { low: 5, high: 41, time: t(time) };
            while let Some(from) = search.ask() {
                search.told(look(from));
            }
            let found = search.low;
            let next = events.iter().find(|(sequence, _)| *sequence >= found).map_or(41, |(sequence, _)| *sequence);
            assert_eq!(next, want, "the first event at {time} or later");
            let before = events.iter().filter(|(sequence, _)| *sequence < found);
            assert!(before.into_iter().all(|(_, second)| *second < time), "{time}");
        }
    }
}
