//! The record of a Producer's progress: how far its shared consumer has come.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::VERSION;
use crate::nats::last_event::LastEvent;
use crate::nats::loss::{Found, Look, Loss, Position, is_told};

/// How far a Producer's shared consumer has come, and which events its stream lost: the value of
/// `checkpoint.<producer>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    /// The record version, [`VERSION`].
    pub version: u32,
    /// When the stream was created.
    pub stream_created: Timestamp,
    /// The sequence up to which all events are done.
    pub ack_floor: u64,
    /// The last event of the stream at the last look, by which a stream that was restored from an earlier moment is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event: Option<LastEvent>,
    /// The position of the consumer at the last look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The events that were removed from the stream before a dispatcher received them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// When the stream was found replaced by another one of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Timestamp>,
}

impl Checkpoint {
    /// The first checkpoint of a stream.
    #[must_use]
    pub const fn new(stream_created: Timestamp, ack_floor: u64, last_event: Option<LastEvent>) -> Self {
        Self { version: VERSION, stream_created, ack_floor, last_event, position: None, loss: None, replaced: None }
    }

    /// The checkpoint after a look at the stream, which may be another one of the same name; and the events that the
    /// look found lost. If the old floor is above the consumer's, it was rechecked.
    #[must_use]
    pub fn after(
        old: Option<&Self>,
        stream_created: Timestamp,
        (ack_floor, last_event): (u64, Option<LastEvent>),
        look: &Look,
        now: Timestamp,
    ) -> (Self, Found) {
        let same = old.filter(|old| old.stream_created == stream_created);
        let (position, found) = look.compare(same.and_then(|old| old.position.as_ref()));
        let replaced = match (old, same) {
            (Some(_), None) => Some(now),
            _ => old.and_then(|old| old.replaced).filter(|time| is_told(*time, now)),
        };
        let checkpoint = Self {
            version: VERSION,
            stream_created,
            // A consumer that was just re-created must not put an older floor back. What came after the look at the
            // stream is left for the next one: `last_event` has to say of all up to the floor which events they were.
            ack_floor: same.map_or(0, |old| old.ack_floor).max(ack_floor).min(look.last),
            last_event,
            position: Some(position),
            loss: Loss::with(old.and_then(|old| old.loss.as_ref()), found, now),
            replaced,
        };
        (checkpoint, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

    #[test]
    fn a_checkpoint_follows_the_stream_and_the_one_in_its_place() {
        let t = |second| Timestamp::from_second(second).unwrap();
        let look = |delivered, first| Look {
            consumer_created: t(1),
            start: None,
            delivered,
            deliveries: delivered,
            waits: false,
            first,
            last: delivered.max(10),
            whole: true,
        };
        let last = LastEvent::of(10, t(9));
        let (first, _) = Checkpoint::after(None, t(1), (10, last), &look(10, 1), t(20));
        assert_eq!((first.ack_floor, first.last_event, &first.loss, first.replaced), (10, last, &None, None));
        let (ahead, _) = Checkpoint::after(None, t(1), (12, last), &look(10, 1), t(20));
        assert_eq!(ahead.ack_floor, 10, "no farther than what is known of the stream");
        let (second, found) = Checkpoint::after(Some(&first), t(1), (5, None), &look(10, 14), t(30));
        assert_eq!((second.ack_floor, found.events), (10, 3), "the floor doesn't go back");
        let earlier = Look { last: 7, ..look(7, 1) };
        let (restored, found) = Checkpoint::after(Some(&second), t(1), (4, None), &earlier, t(30));
        assert_eq!((restored.ack_floor, found.events), (7, 0), "the stream of an earlier moment");
        let (third, found) = Checkpoint::after(Some(&second), t(2), (0, None), &look(0, 1), t(40));
        assert_eq!((third.ack_floor, third.replaced, found.events), (0, Some(t(40)), 0), "another stream");
        assert_eq!(third.loss, second.loss);
        let (fourth, _) = Checkpoint::after(Some(&third), t(2), (1, None), &look(1, 1), t(50));
        assert_eq!((fourth.ack_floor, fourth.replaced), (1, Some(t(40))));
        let (fifth, _) = Checkpoint::after(Some(&fourth), t(2), (1, None), &look(1, 1), t(100_000));
        assert_eq!((fifth.replaced, fifth.loss), (None, None), "a day later");
        // The first checkpoint of a stream has no position, and an empty stream no last event.
        let old = br#"{"version":1,"streamCreated":"1970-01-01T00:00:01Z","ackFloor":7}"#;
        assert_eq!(decode::<Checkpoint>(old).unwrap(), Checkpoint::new(t(1), 7, None));
        for checkpoint in [first, second] {
            assert_eq!(decode::<Checkpoint>(&encode(&checkpoint).unwrap()).unwrap(), checkpoint);
        }
    }
}
