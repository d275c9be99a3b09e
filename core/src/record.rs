//! The records that the operator writes and dispatchers serve from: JSON in the KV bucket `HOOKWRIGHT_CONFIG`.
//!
//! A record has a version. A dispatcher that meets a newer one, or one that it can't read in full, stops serving that
//! producer and says why: half-understood config must not send webhooks.

pub mod lease;
mod schema;
pub mod seal;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::delivery::policy::DeliveryPolicy;
use crate::event::event_type::EventTypePattern;
use crate::nats::ids::{ProducerUid, SubscriptionUid};
use crate::nats::loss::{Found, Look, Loss, Position, is_told};
use crate::record::seal::{Place, SealError, Sealed, SealingKey, Secret};
pub use schema::{EventSchemaRecord, SchemaVersionRecord, Validation, Violations};

/// The version of the records of this build.
pub const VERSION: u32 = 1;

/// A producer: the stream to read and how to read its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProducerRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The object's uid.
    pub uid: ProducerUid,
    /// Its generation.
    pub generation: i64,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The stream that keeps the events.
    pub stream: StreamRef,
    /// The shared consumer on it.
    pub consumer: String,
    /// Where an event's type comes from.
    pub event_type: EventTypeRule,
    /// Whether events are held against their schemas.
    #[serde(default, skip_serializing_if = "Validation::is_ignore")]
    pub validation: Validation,
}

/// A stream, told from one of the same name before or after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamRef {
    /// The name.
    pub name: String,
    /// When it was created, by the server's word.
    pub created: Timestamp,
}

/// Where an event's type comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventTypeRule {
    /// None: `ce-type` (or `type` of a structured CloudEvent), else the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<EventTypeSource>,
    /// Taken off the subject, where the subject is the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
}

/// The one place that an event's type is read from; its absence makes the event malformed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum EventTypeSource {
    /// The CloudEvents attribute `type`.
    CloudEvents,
    /// The subject.
    Subject,
    /// This header of the message.
    Header {
        /// Its name, without regard to case.
        name: String,
    },
}

/// A subscription; `S` is [`Sealed`] in KV and [`Secret`] in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionRecord<S> {
    /// [`VERSION`].
    pub version: u32,
    /// The object's uid.
    pub uid: SubscriptionUid,
    /// Its generation.
    pub generation: i64,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whose events it gets.
    pub producer: ProducerUid,
    /// Which of them; one of the patterns has to match.
    pub event_types: Vec<EventTypePattern>,
    /// Where they go.
    pub endpoint: EndpointRecord<S>,
    /// The signing secrets, `whsec_...`; all of them sign.
    pub signing: Vec<S>,
    /// How they are delivered.
    pub policy: DeliveryPolicy,
}

/// Where deliveries go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointRecord<S> {
    /// The URL, in its canonical form.
    pub url: String,
    /// Headers that go with each request.
    pub headers: Vec<HeaderRecord<S>>,
}

/// A header that goes with each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderRecord<S> {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: HeaderValue<S>,
}

/// The value of a header, in the clear or from a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeaderValue<S> {
    /// Written in the Subscription.
    Plain(String),
    /// Read from a Secret.
    Secret(S),
}

impl<S> SubscriptionRecord<S> {
    /// The same record with each secret turned by `turn`, which gets the secret and its field's path.
    fn try_map<T, E>(self, mut turn: impl FnMut(S, &str) -> Result<T, E>) -> Result<SubscriptionRecord<T>, E> {
        let mut headers = Vec::with_capacity(self.endpoint.headers.len());
        for HeaderRecord { name, value } in self.endpoint.headers {
            let value = match value {
                HeaderValue::Plain(text) => HeaderValue::Plain(text),
                HeaderValue::Secret(secret) => HeaderValue::Secret(turn(secret, &format!("headers[{name}]"))?),
            };
            headers.push(HeaderRecord { name, value });
        }
        let signing = self.signing.into_iter().enumerate();
        Ok(SubscriptionRecord {
            signing: signing.map(|(i, secret)| turn(secret, &format!("signing[{i}]"))).collect::<Result<_, E>>()?,
            endpoint: EndpointRecord { url: self.endpoint.url, headers },
            version: self.version,
            uid: self.uid,
            generation: self.generation,
            namespace: self.namespace,
            name: self.name,
            producer: self.producer,
            event_types: self.event_types,
            policy: self.policy,
        })
    }
}

impl SubscriptionRecord<Secret> {
    /// The record as it goes into KV. `nonce` gives 12 fresh random bytes for each secret.
    ///
    /// # Errors
    /// If a secret can't be sealed.
    pub fn seal(
        self,
        key: &SealingKey,
        mut nonce: impl FnMut() -> [u8; 12],
    ) -> Result<SubscriptionRecord<Sealed>, SealError> {
        let uid = self.uid.clone();
        self.try_map(|secret, field| key.seal(&secret, &Place { uid: uid.as_str(), field }, nonce()))
    }
}

impl SubscriptionRecord<Sealed> {
    /// The record with its secrets in the clear.
    ///
    /// # Errors
    /// If one of them does not open.
    pub fn open(self, key: &SealingKey) -> Result<SubscriptionRecord<Secret>, SealError> {
        let uid = self.uid.clone();
        self.try_map(|sealed, field| key.open(&sealed, &Place { uid: uid.as_str(), field }))
    }
}

/// How far a producer's shared consumer has come, and what became of its stream: the value of `checkpoint.<producer>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    /// [`VERSION`].
    pub version: u32,
    /// When the stream was created.
    pub stream_created: Timestamp,
    /// All events up to this sequence are done.
    pub ack_floor: u64,
    /// Where the consumer was when it was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Events that went before they were received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// When the stream was found to be another one of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Timestamp>,
}

impl Checkpoint {
    /// Of a stream that nothing else is known of.
    #[must_use]
    pub const fn new(stream_created: Timestamp, ack_floor: u64) -> Self {
        Self { version: VERSION, stream_created, ack_floor, position: None, loss: None, replaced: None }
    }

    /// The checkpoint after a look at the same stream or the one in its place, and what the look has found.
    #[must_use]
    pub fn after(
        old: Option<&Self>,
        stream_created: Timestamp,
        ack_floor: u64,
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
            // A consumer that was just re-created must not put an older floor back.
            ack_floor: same.map_or(0, |old| old.ack_floor).max(ack_floor),
            position: Some(position),
            loss: Loss::with(old.and_then(|old| old.loss.as_ref()), found, now),
            replaced,
        };
        (checkpoint, found)
    }
}

/// A subscription is disabled, since its endpoint answered 410: the value of `disabled.<subscription>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disabled {
    /// [`VERSION`].
    pub version: u32,
    /// The generation that this holds for; an edit ends it.
    pub generation: i64,
    /// When the endpoint said so.
    pub since: Timestamp,
}

/// A record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer release.
    #[error(
        "the record has version {0}, this build reads up to {VERSION}: upgrade the dispatchers before the operator"
    )]
    Newer(u32),
    /// Not what the version says.
    #[error("the record can't be read")]
    Invalid(#[from] serde_json::Error),
}

/// Reads a record of this version or an older one.
///
/// # Errors
/// If it is newer, or not a record of this kind.
pub fn decode<R: DeserializeOwned>(json: &[u8]) -> Result<R, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(json)?;
    if version > VERSION {
        return Err(RecordError::Newer(version));
    }
    Ok(serde_json::from_slice(json)?)
}

/// Writes a record.
///
/// # Errors
/// Never for the types of this module; `serde_json` can't know that.
pub fn encode<R: Serialize>(record: &R) -> Result<Vec<u8>, RecordError> {
    Ok(serde_json::to_vec(record)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    fn record() -> SubscriptionRecord<Secret> {
        let header = |name: &str, value| HeaderRecord { name: name.into(), value };
        SubscriptionRecord {
            version: VERSION,
            uid: SubscriptionUid::parse("s-1").unwrap(),
            generation: 3,
            namespace: "shop".into(),
            name: "billing".into(),
            producer: ProducerUid::parse("p-1").unwrap(),
            event_types: vec![EventTypePattern::parse("order.*").unwrap()],
            endpoint: EndpointRecord {
                url: "https://example.com/".into(),
                headers: vec![
                    header("x-team", HeaderValue::Plain("billing".into())),
                    header("authorization", HeaderValue::Secret(Secret::new("Bearer hush".into()))),
                ],
            },
            signing: vec![Secret::new("whsec_hush".into())],
            policy: DeliveryPolicy::default(),
        }
    }

    #[test]
    fn seals_every_secret_and_opens_again() {
        let key = SealingKey::parse("k1", &base64::engine::general_purpose::STANDARD.encode([1; 32])).unwrap();
        let mut n = 0;
        let sealed = record()
            .seal(&key, || {
                n += 1;
                [n; 12]
            })
            .unwrap();
        let json = encode(&sealed).unwrap();
        assert!(!String::from_utf8_lossy(&json).contains("hush"));
        let read: SubscriptionRecord<Sealed> = decode(&json).unwrap();
        assert_eq!(read.open(&key).unwrap(), record());
    }

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
            last: delivered,
            whole: true,
        };
        let (first, _) = Checkpoint::after(None, t(1), 10, &look(10, 1), t(20));
        assert_eq!((first.ack_floor, &first.loss, first.replaced), (10, &None, None));
        let (second, found) = Checkpoint::after(Some(&first), t(1), 5, &look(10, 14), t(30));
        assert_eq!((second.ack_floor, found.events), (10, 3), "the floor doesn't go back");
        let (third, found) = Checkpoint::after(Some(&second), t(2), 0, &look(0, 1), t(40));
        assert_eq!((third.ack_floor, third.replaced, found.events), (0, Some(t(40)), 0), "another stream");
        assert_eq!(third.loss, second.loss);
        let (fourth, _) = Checkpoint::after(Some(&third), t(2), 1, &look(1, 1), t(50));
        assert_eq!((fourth.ack_floor, fourth.replaced), (1, Some(t(40))));
        let (fifth, _) = Checkpoint::after(Some(&fourth), t(2), 1, &look(1, 1), t(100_000));
        assert_eq!((fifth.replaced, fifth.loss), (None, None), "a day later");
        // What an older release wrote says nothing of a position.
        let old = br#"{"version":1,"streamCreated":"1970-01-01T00:00:01Z","ackFloor":7}"#;
        assert_eq!(decode::<Checkpoint>(old).unwrap(), Checkpoint::new(t(1), 7));
        assert_eq!(decode::<Checkpoint>(&encode(&second).unwrap()).unwrap(), second);
    }

    #[test]
    fn newer_and_unknown_records_are_refused() {
        assert!(matches!(decode::<Checkpoint>(br#"{"version":2,"x":1}"#), Err(RecordError::Newer(2))));
        let unknown = br#"{"version":1,"streamCreated":"2026-01-01T00:00:00Z","ackFloor":1,"x":1}"#;
        assert!(matches!(decode::<Checkpoint>(unknown), Err(RecordError::Invalid(_))));
    }
}
