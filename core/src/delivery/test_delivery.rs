//! A test delivery: what an annotation on a Subscription asks for, and what came of it.
//!
//! The request is a record in the state bucket. Its revision there names it: the message that brings it to a dispatcher
//! carries the revision, and the result is written only over that revision. So a request that was answered, or that
//! another one has replaced, is neither sent nor answered again, whoever comes late.

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

/// The type of the event that a test delivers.
pub const TEST_EVENT_TYPE: &str = "hookwright.test";
/// Header of the message that brings a test to a dispatcher: JSON of [`TestDelivery`].
pub const TEST_HEADER: &str = "Hookwright-Test";
/// The longest value that is kept as it is written.
const MAX_VALUE: usize = 64;
/// A test that has not ended after this long makes way for another: longer than an attempt may take.
pub const GIVE_WAY: SignedDuration = SignedDuration::from_secs(60);
/// Two tests of one subscription are asked for at least this far apart.
pub const APART: SignedDuration = SignedDuration::from_secs(1);

/// A test that was asked for: the value of `test.<subscription>` in the state bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestRecord {
    /// [`crate::codec::VERSION`].
    pub version: u32,
    /// The subscription's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The annotation's value, as [`shown`].
    pub value: String,
    /// When the operator took it up.
    pub requested: Timestamp,
    /// What came of it; none while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TestResult>,
}

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestResult {
    /// When it ended.
    pub time: Timestamp,
    /// What the one attempt came to.
    pub outcome: OutcomeKind,
    /// The HTTP status, if there was a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_millis: u64,
}

/// What a dispatcher is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestDelivery {
    /// [`crate::codec::VERSION`].
    pub version: u32,
    /// Who is to get it.
    pub subscription: SubscriptionUid,
    /// The config revision of the subscription's record: a dispatcher that has not loaded up to it waits.
    pub revision: u64,
    /// The revision of the request in the state bucket.
    pub request: u64,
    /// The request.
    pub test: TestRecord,
}

impl TestDelivery {
    /// The delivery's identity, from the place of the request as that of an event is from the event's: the same each
    /// time that this test is sent. No producer can have a stream of that name.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        let (stream, stream_created) = (format!("KV_{STATE_BUCKET}"), self.test.requested);
        let subscription = &self.subscription;
        DeliveryKey { subscription, stream: &stream, stream_created, sequence: self.request }.id()
    }

    /// The headers of the message that asks a dispatcher for it. Asked for twice within the duplicate window, it is sent
    /// once.
    ///
    /// # Errors
    /// If it can't be encoded, which doesn't happen.
    pub fn headers(&self) -> Result<[(&'static str, String); 2], RecordError> {
        let message_id = format!("test:{}:{}:{}", self.subscription, self.request, self.revision);
        Ok([(TEST_HEADER, encode_header(self)?), ("Nats-Msg-Id", message_id)])
    }

    /// The event, from `source`.
    ///
    /// # Errors
    /// Never; the rules for events can't know that.
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

/// A value as records and status hold it: as it is if it is short and plain, else its digest. So it is bounded, and two
/// that differ still do.
#[must_use]
pub fn shown(value: &str) -> String {
    if value.len() <= MAX_VALUE && value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        value.to_owned()
    } else {
        format!("sha256:{}", HEXLOWER.encode(digest(&SHA256, value.as_bytes()).as_ref()))
    }
}

/// What is to be done for a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing: this came of it.
    Ended(&'a TestResult),
    /// It was asked for and has not ended.
    UnderWay,
    /// It is to be asked for now.
    Ask,
    /// It is its turn in this long at the latest.
    Wait(SignedDuration),
}

/// What is to be done for a [`shown`] value, when `record` is the last test that was asked for. There is one test at a
/// time, so of the values that come while one is under way the last is sent.
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
    // A time ahead is that of another clock.
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
