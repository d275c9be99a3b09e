//! Says when the numbers of a Producer's stream may go into status. The numbers change all the time, so each stream's
//! are written at most every few seconds, and only when the budget of status writes has room.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use async_nats::jetstream::stream::Info;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_crds::{Producer, StreamStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cache::shared::Shared;

/// How often the streams are looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The shortest time between two writes of the same stream's numbers. A look that comes sooner after a write leaves the
/// numbers to the next look. Even then they are at most 15 s old in status while somebody publishes, as far as the budget
/// allows: 2 s are left for the look and the write.
const WRITE_EVERY: Duration = Duration::from_secs(3);

/// Returns the numbers of a stream, as status shows them.
pub(crate) fn numbers(stream: &Info) -> StreamStatus {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // To the second.
    let oldest = Timestamp::from_second(stream.state.first_timestamp.unix_timestamp());
    StreamStatus {
        name: stream.config.name.clone(),
        messages: number(stream.state.messages),
        bytes: number(stream.state.bytes),
        oldest_event_time: oldest.ok().filter(|_| stream.state.messages > 0).map(Time),
        first_sequence: number(stream.state.first_sequence),
        last_sequence: number(stream.state.last_sequence),
    }
}

/// When each Producer's numbers were written, which ones a look has found since, and which Producers wait for room.
#[derive(Default)]
pub(crate) struct StreamNumbers {
    state: Shared<State>,
    asked: Notify,
}

#[derive(Default)]
struct State {
    written: HashMap<ProducerUid, Instant>,
    /// What a look has found and status doesn't say yet.
    found: HashMap<ProducerUid, StreamStatus>,
    waiting: VecDeque<(ProducerUid, ObjectRef<Producer>)>,
    /// The Producers that were granted room. It is counted in the budget already.
    granted: HashSet<ProducerUid>,
}

impl StreamNumbers {
    /// Returns whether it has been long enough since the numbers were written.
    pub(crate) fn is_due(&self, uid: &ProducerUid) -> bool {
        self.state.lock().written.get(uid).is_none_or(|last| last.elapsed() >= WRITE_EVERY)
    }

    /// Notes that the numbers are written now.
    pub(crate) fn written(&self, uid: &ProducerUid) {
        let mut state = self.state.lock();
        state.written.insert(uid.clone(), Instant::now());
        state.found.remove(uid);
    }

    /// Notes what a look has found.
    pub(crate) fn found(&self, uid: &ProducerUid, numbers: StreamStatus) {
        self.state.lock().found.insert(uid.clone(), numbers);
    }

    /// What a look has found since the numbers were written. A stream goes on whose Producer's latest spec is refused, or
    /// waits for something.
    pub(crate) fn unwritten(&self, uid: &ProducerUid) -> Option<StreamStatus> {
        self.state.lock().found.get(uid).cloned()
    }

    /// Takes the room that was granted to the Producer, if any.
    pub(crate) fn take_grant(&self, uid: &ProducerUid) -> bool {
        self.state.lock().granted.remove(uid)
    }

    /// Queues the Producer for room. It is reconciled again when the room is granted.
    pub(crate) fn ask(&self, uid: &ProducerUid, producer: ObjectRef<Producer>) {
        let mut state = self.state.lock();
        if !state.waiting.iter().any(|(waiting, _)| waiting == uid) {
            state.waiting.push_back((uid.clone(), producer));
        }
        drop(state);
        self.asked.notify_one();
    }

    /// Waits until a Producer waits for room.
    pub(crate) async fn wanted(&self) {
        while self.state.lock().waiting.is_empty() {
            self.asked.notified().await;
        }
    }

    /// Grants room to the Producer that has waited longest.
    pub(crate) fn grant(&self) -> Option<ObjectRef<Producer>> {
        let mut state = self.state.lock();
        let (uid, producer) = state.waiting.pop_front()?;
        state.granted.insert(uid);
        Some(producer)
    }

    pub(crate) fn forget(&self, uid: &ProducerUid) {
        let mut state = self.state.lock();
        state.written.remove(uid);
        state.found.remove(uid);
        state.granted.remove(uid);
        state.waiting.retain(|(waiting, _)| waiting != uid);
    }
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::Config;
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn the_window_of_what_a_stream_keeps() {
        let stream = |messages: u64| -> Info {
            let config = Config { name: "shop_orders".into(), ..Config::default() };
            let state = json!({
                "messages": messages, "bytes": messages * 100, "first_seq": 5, "last_seq": 9, "consumer_count": 1,
                "first_ts": "2026-01-01T00:00:07.9Z", "last_ts": "2026-01-01T00:00:08Z",
            });
            from_value(json!({ "config": config, "created": "2026-01-01T00:00:00Z", "state": state })).unwrap()
        };
        let at = |second: i64| Time(Timestamp::from_second(1_767_225_600 + second).unwrap());
        for (messages, oldest) in [(5, Some(at(7))), (0, None)] {
            let status = numbers(&stream(messages));
            assert_eq!((status.name.as_str(), status.oldest_event_time), ("shop_orders", oldest));
            let bytes = i64::try_from(messages).unwrap() * 100;
            assert_eq!((status.bytes, status.first_sequence, status.last_sequence), (bytes, 5, 9));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_waiting_first_and_each_once() {
        let (numbers, uid) = (StreamNumbers::default(), |name: &str| ProducerUid::parse(name).unwrap());
        let object = |name: &str| ObjectRef::<Producer>::new(name);
        for name in ["a", "b", "a"] {
            numbers.ask(&uid(name), object(name));
        }
        assert!(!numbers.take_grant(&uid("a")));
        assert_eq!(numbers.grant(), Some(object("a")));
        assert!(numbers.take_grant(&uid("a")) && !numbers.take_grant(&uid("a")));
        numbers.forget(&uid("b"));
        assert_eq!(numbers.grant(), None);
        assert!(numbers.is_due(&uid("a")));
        numbers.written(&uid("a"));
        assert!(!numbers.is_due(&uid("a")));
        tokio::time::advance(WRITE_EVERY).await;
        assert!(numbers.is_due(&uid("a")));
    }

    /// Whenever a reconcile writes the numbers between two looks.
    #[tokio::test(start_paused = true)]
    async fn numbers_do_not_grow_older_than_fifteen_seconds() {
        const TO_WRITE: Duration = Duration::from_secs(2);
        let uid = ProducerUid::parse("a").unwrap();
        for tenths in 0..100 {
            let (numbers, after_look) = (StreamNumbers::default(), Duration::from_millis(tenths * 100));
            numbers.written(&uid);
            let written = Instant::now();
            tokio::time::advance(LOOK_EVERY - after_look).await;
            while !numbers.is_due(&uid) {
                tokio::time::advance(LOOK_EVERY).await;
            }
            let oldest = written.elapsed() + TO_WRITE;
            assert!(oldest <= Duration::from_secs(15), "{oldest:?}, if they are written {after_look:?} after a look");
        }
    }

    #[test]
    fn what_a_look_has_found_is_written_once() {
        let (numbers, uid) = (StreamNumbers::default(), ProducerUid::parse("a").unwrap());
        let status = |messages| StreamStatus { messages, ..StreamStatus::default() };
        assert_eq!(numbers.unwritten(&uid), None);
        numbers.found(&uid, status(1));
        numbers.found(&uid, status(2));
        assert_eq!(numbers.unwritten(&uid), Some(status(2)));
        numbers.written(&uid);
        assert_eq!(numbers.unwritten(&uid), None);
    }
}
