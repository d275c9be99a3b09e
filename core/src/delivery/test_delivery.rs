//! Test deliveries: an annotation on a Subscription asks for one, and its status shows the result.
//!
//! The request is a record in the state bucket. The revision of the record identifies the request: the message that
//! brings it to a dispatcher carries the revision, and the dispatcher writes the result only over that revision. So a
//! dispatcher that comes late neither sends nor answers a request that was answered already or that another one has
//! replaced.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::codec::{RecordError, encode_header};
use crate::delivery::outcome::OutcomeKind;
use crate::event::event_type::EventTypeRule;
use crate::event::{Event, Malformed, Message, Reading, parse};
use crate::nats::delivery_id::{DeliveryId, DeliveryKey};
use crate::nats::ids::SubscriptionUid;
use crate::nats::names::STATE_BUCKET;

/// The type of the event that a test delivery has.
pub const TEST_EVENT_TYPE: &str = "hookwright.test";
/// The header of the message to a dispatcher that holds a [`TestDelivery`] as JSON.
pub const TEST_HEADER: &str = "Hookwright-Test";
/// The longest value of the annotation that is kept as it is written, in bytes.
const MAX_VALUE: usize = 64;
/// After this time a test that has not ended gives way to the next one. It is longer than an attempt may take.
pub const GIVE_WAY: SignedDuration = SignedDuration::from_secs(60);
/// The shortest time between two tests of one Subscription.
pub const APART: SignedDuration = SignedDuration::from_secs(1);

/// A test that was requested: the value of `test.<subscription>` in the state bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestRecord {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The namespace of the Subscription.
    pub namespace: String,
    /// The name of the Subscription.
    pub name: String,
    /// The value of the annotation, in the form of [`shown`].
    pub value: String,
    /// When the operator wrote the request.
    pub requested: Timestamp,
    /// The result of the test; `None` while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TestResult>,
}

/// The result of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestResult {
    /// When the test ended.
    pub time: Timestamp,
    /// How the one attempt ended.
    pub outcome: OutcomeKind,
    /// The HTTP status, if there was a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// How long the attempt took, in milliseconds.
    pub duration_millis: u64,
}

/// The message that asks a dispatcher for a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestDelivery {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The Subscription that is to get the test event.
    pub subscription: SubscriptionUid,
    /// The config revision of the Subscription's record. A dispatcher that has not loaded this revision yet waits.
    pub revision: u64,
    /// The revision of the request in the state bucket.
    pub request: u64,
    /// The request itself.
    pub test: TestRecord,
}

impl TestDelivery {
    /// The id of the delivery. It is made of the bucket and the revision of the request, as the id of another delivery
    /// is made of the stream and the sequence of its event. So it is the same each time that this test is sent. No
    /// Producer can have a stream of the bucket's name.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        let (stream, stream_created) = (format!("KV_{STATE_BUCKET}"), self.test.requested);
        let subscription = &self.subscription;
        DeliveryKey { subscription, stream: &stream, stream_created, sequence: self.request, stored: stream_created }
            .id()
    }

    /// The names and values of the headers of the message that asks a dispatcher for the test. If it is published twice
    /// within the duplicate window, NATS keeps it once.
    ///
    /// # Errors
    /// If the record can't be encoded, which doesn't happen.
    pub fn headers(&self) -> Result<[(&'static str, String); 2], RecordError> {
        let message_id = format!("test:{}:{}:{}", self.subscription, self.request, self.revision);
        Ok([(TEST_HEADER, encode_header(self)?), ("Nats-Msg-Id", message_id)])
    }

    /// The event of the test, with `source` as its CloudEvents source.
    ///
    /// # Errors
    /// Never; [`parse`] can't know that.
    pub fn event(&self, source: &HeaderValue) -> Result<Event, Malformed> {
        let TestRecord { namespace, name, value, requested, .. } = &self.test;
        let data = json!({
            "message": "This is a test. It stands for no event.",
            "subscription": { "namespace": namespace, "name": name },
            "value": value,
        });
        let (id, body) = (self.id(), Bytes::from(data.to_string()));
        let message = Message {
            subject: "",
            headers: &[("content-type", "application/json"), ("ce-id", id.as_str())],
            body: &body,
            stream: "",
            sequence: 0,
            published: *requested,
        };
        parse(&message, Reading { rule: &EventTypeRule::default(), source, known_type: Some(TEST_EVENT_TYPE) })
    }
}

/// The form of an annotation's value in records and status: the value itself if it has at most 64 bytes of printable
/// ASCII, else `sha256:` and its digest. So the form is bounded, and different values have different forms.
#[must_use]
pub fn shown(value: &str) -> String {
    if value.len() <= MAX_VALUE && value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        value.to_owned()
    } else {
        format!("sha256:{}", HEXLOWER.encode(digest(&SHA256, value.as_bytes()).as_ref()))
    }
}

/// What the operator has to do for a value of the annotation.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing: the test has ended, with this result.
    Ended(&'a TestResult),
    /// Nothing: the test was requested and has not ended.
    UnderWay,
    /// Request the test now.
    Ask,
    /// Wait for another test, at most this long.
    Wait(SignedDuration),
}

/// What the operator has to do for a [`shown`] value, where `record` is the last test that was requested. A
/// Subscription has one test at a time. If several values come while one is under way, only the last of them is tested.
#[must_use]
pub fn step<'a>(record: Option<&'a TestRecord>, value: &str, now: Timestamp) -> Step<'a> {
    let Some(record) = record else { return Step::Ask };
    let pause = match &record.result {
        Some(result) if record.value == value => return Step::Ended(result),
        None if record.value == value => return Step::UnderWay,
        Some(_) => APART,
        None => GIVE_WAY,
    };
    let since = now.duration_since(record.requested);
    // A time in the future comes from another clock.
    if since.is_negative() || since >= pause { Step::Ask } else { Step::Wait(pause - since) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{VERSION, decode, encode};
    use crate::event::attribute_value;

    fn t(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
    }

    fn record(value: &str, result: Option<TestResult>) -> TestRecord {
        let (namespace, name) = ("shop".to_owned(), "billing".to_owned());
        TestRecord { version: VERSION, namespace, name, value: value.to_owned(), requested: t(0), result }
    }

    fn rejected() -> TestResult {
        TestResult { time: t(90), outcome: OutcomeKind::Rejected, http_status: Some(500), duration_millis: 80 }
    }

    fn delivery(subscription: &str, request: u64) -> TestDelivery {
        let subscription = SubscriptionUid::parse(subscription).unwrap();
        TestDelivery { version: VERSION, subscription, revision: 3, request, test: record("1", None) }
    }

    #[test]
    fn values_are_bounded_and_stay_apart() {
        assert_eq!(shown("2026-01-01 09:30"), "2026-01-01 09:30");
        assert_eq!(shown(&"a".repeat(64)), "a".repeat(64));
        let hostile = ["a".repeat(65), "a".repeat(10 << 10), "\u{1b}[2J".into(), "ü".into(), "a\nb".into()];
        for value in &hostile {
            let shown = shown(value);
            assert!(shown.len() == 71 && shown.starts_with("sha256:"), "{shown}");
        }
        let mut all: Vec<String> = hostile.iter().map(|value| shown(value)).collect();
        all.push(shown(&all[0]));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), hostile.len() + 1, "not even a digest is taken for what it is the digest of");
    }

    #[test]
    fn one_test_at_a_time() {
        let (under_way, ended) = (record("a", None), record("a", Some(rejected())));
        let wait = |millis| Step::Wait(SignedDuration::from_millis(millis));
        for (record, value, now, want) in [
            (None, "a", 0, Step::Ask),
            (Some(&ended), "a", 1_000_000_000, Step::Ended(&rejected())),
            (Some(&ended), "b", 999, wait(1)),
            (Some(&ended), "b", 1000, Step::Ask),
            (Some(&under_way), "a", 1_000_000_000, Step::UnderWay),
            (Some(&under_way), "b", 1000, wait(59_000)),
            (Some(&under_way), "b", 60_000, Step::Ask),
            (Some(&under_way), "b", -1, Step::Ask),
        ] {
            assert_eq!(step(record, value, t(now)), want, "{record:?}, {value} at {now}");
        }
    }

    #[test]
    fn each_request_has_an_identity() {
        let id = delivery("s-1", 7).id();
        assert_eq!(id, delivery("s-1", 7).id());
        let mut later = delivery("s-1", 7);
        later.test.requested = t(1);
        for other in [delivery("s-2", 7), delivery("s-1", 8), later] {
            assert_ne!(id, other.id());
        }
    }

    #[test]
    fn the_event_says_what_it_is() {
        let delivery = delivery("s-1", 7);
        let event = delivery.event(&attribute_value("/namespaces/shop/producers/orders")).unwrap();
        assert_eq!(event.event_type, TEST_EVENT_TYPE);
        for (name, want) in [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-type", "hookwright.test"),
            ("ce-source", "/namespaces/shop/producers/orders"),
            ("ce-id", delivery.id().as_str()),
            ("ce-time", "2023-11-14T22:13:20Z"),
        ] {
            assert_eq!(event.headers[name], want);
        }
        let data: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
        assert_eq!(data["subscription"], json!({ "namespace": "shop", "name": "billing" }));
    }

    #[test]
    fn is_read_as_it_was_written_and_by_nobody_who_takes_it_for_an_event() {
        let mut delivery = delivery("s-1", 7);
        delivery.test.result = Some(rejected());
        let json = encode(&delivery).unwrap();
        assert_eq!(decode::<TestDelivery>(&json).unwrap(), delivery);
        assert!(decode::<crate::delivery::parked::ParkedDelivery>(&json).is_err());
        // An older dispatcher looks for another header, finds none, and leaves the message to others.
        assert!(decode::<crate::delivery::parked::ParkedDelivery>(b"").is_err());
    }
}
