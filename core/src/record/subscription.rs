//! The record of a Subscription.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::delivery::policy::DeliveryPolicy;
use crate::destination::Destination;
use crate::nats::ids::{ProducerUid, SubscriptionUid};
use crate::payload::{Payload, PayloadPolicy};
use crate::position::Flow;
use crate::seal::{SealError, Sealed, SealingKeys, Secret, SecretPlace};
use crate::select::Selection;

/// The record of a Subscription. `S` is [`Sealed`] in KV and [`Secret`] in memory. Each group of fields has its own
/// type, which is passed on whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionRecord<S> {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The identity of the Subscription.
    pub identity: Identity,
    /// The Producer whose events the Subscription gets.
    pub producer: ProducerUid,
    /// Which of the Producer's events the Subscription gets.
    pub select: Selection,
    /// Where the events are delivered to. None while the Subscription is refused: its spec, or something that it refers
    /// to, can't be used as it is. Nothing is delivered then, and events wait.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination<S>>,
    /// What a webhook carries of an event, and in which form.
    #[serde(default, skip_serializing_if = "Payload::is_default")]
    pub payload: Payload,
    /// What the Producer withholds from the Subscription.
    #[serde(default, skip_serializing_if = "PayloadPolicy::is_empty")]
    pub payload_policy: PayloadPolicy,
    /// How the events are delivered.
    pub delivery: DeliveryPolicy,
    /// Whether the events are delivered now.
    #[serde(default, skip_serializing_if = "Flow::is_default")]
    pub flow: Flow,
}

fn none<T>() -> Option<T> {
    None
}

/// The identity of the Subscription that a record belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// The uid of the Subscription.
    pub uid: SubscriptionUid,
    /// The generation of the Subscription that the record was made from.
    pub generation: i64,
    /// The namespace of the Subscription.
    pub namespace: String,
    /// The name of the Subscription.
    pub name: String,
}

impl<S> SubscriptionRecord<S> {
    /// Whether the Subscription is refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.destination.is_none()
    }

    /// The scheme, host and port that its secrets are sent to, and the address if the host is a Service.
    fn origin(&self) -> String {
        let Some(destination) = &self.destination else { return String::new() };
        let origin =
            Url::parse(&destination.url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization());
        destination.service.map_or_else(|| origin.clone(), |address| format!("{origin} {address}"))
    }

    fn try_map<T, E>(self, turn: impl FnMut(S, &str) -> Result<T, E>) -> Result<SubscriptionRecord<T>, E> {
        let Self { version, identity, producer, select, destination, payload, payload_policy, delivery, flow } = self;
        let destination = destination.map(|destination| destination.try_map(turn)).transpose()?;
        Ok(SubscriptionRecord {
            version,
            identity,
            producer,
            select,
            destination,
            payload,
            payload_policy,
            delivery,
            flow,
        })
    }
}

impl SubscriptionRecord<Secret> {
    /// Seals the secrets, for a record that goes into KV. `nonce` returns 12 fresh random bytes for each secret.
    ///
    /// # Errors
    /// If a secret can't be sealed.
    pub fn seal(
        self,
        keys: &SealingKeys,
        mut nonce: impl FnMut() -> [u8; 12],
    ) -> Result<SubscriptionRecord<Sealed>, SealError> {
        let (uid, origin) = (self.identity.uid.clone(), self.origin());
        self.try_map(|secret, field| {
            keys.seal(&secret, &SecretPlace { uid: uid.as_str(), origin: &origin, field }, nonce())
        })
    }
}

impl SubscriptionRecord<Sealed> {
    /// Opens the secrets of a record from KV.
    ///
    /// # Errors
    /// If one of the secrets doesn't open.
    pub fn open(self, keys: &SealingKeys) -> Result<SubscriptionRecord<Secret>, SealError> {
        let (uid, origin) = (self.identity.uid.clone(), self.origin());
        self.try_map(|sealed, field| keys.open(&sealed, &SecretPlace { uid: uid.as_str(), origin: &origin, field }))
    }

    /// Returns whether the current key sealed all secrets of the record.
    #[must_use]
    pub fn is_current(&self, keys: &SealingKeys) -> bool {
        self.clone().try_map(|sealed, _| if keys.is_current(&sealed) { Ok(()) } else { Err(()) }).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;

    use super::*;
    use crate::codec::{VERSION, decode, encode};
    use crate::destination::{Header, HeaderValue};
    use crate::event::event_type::EventTypePattern;
    use crate::seal::SealingKey;

    fn keys() -> SealingKeys {
        let key = SealingKey::parse("k1", &base64::engine::general_purpose::STANDARD.encode([1; 32])).unwrap();
        SealingKeys::new(key, Vec::new()).unwrap()
    }

    fn record() -> SubscriptionRecord<Secret> {
        let header = |name: &str, value| Header { name: name.into(), value };
        let (namespace, name) = ("shop".into(), "billing".into());
        SubscriptionRecord {
            version: VERSION,
            identity: Identity { uid: SubscriptionUid::parse("s-1").unwrap(), generation: 3, namespace, name },
            producer: ProducerUid::parse("p-1").unwrap(),
            select: Selection {
                event_types: vec![EventTypePattern::parse("order.*").unwrap()],
                versions: Vec::new(),
                filters: Vec::new(),
            },
            destination: Some(Destination {
                url: "https://example.com/".into(),
                service: None,
                headers: vec![
                    header("x-team", HeaderValue::Plain("billing".into())),
                    header("authorization", HeaderValue::Secret(Secret::new("Bearer hush".into()))),
                ],
                signing: vec![Secret::new("whsec_hush".into())],
            }),
            payload: Payload::default(),
            payload_policy: PayloadPolicy::default(),
            delivery: DeliveryPolicy::default(),
            flow: Flow::default(),
        }
    }

    #[test]
    fn seals_every_secret_and_opens_again() {
        let key = keys();
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
        let sent_to = |url: &str| {
            let mut read = read.clone();
            read.destination.as_mut().unwrap().url = url.into();
            read.open(&key).is_ok()
        };
        assert!(sent_to("https://example.com:443/another/path"));
        for url in ["https://example.org/", "http://example.com/", "https://example.com:444/", "not a URL"] {
            assert!(!sent_to(url), "{url}");
        }
        let mut elsewhere = read.clone();
        elsewhere.destination.as_mut().unwrap().service = Some("10.96.0.7".parse().unwrap());
        assert!(elsewhere.open(&key).is_err());
        assert_eq!(read.open(&key).unwrap(), record());
    }

    #[test]
    fn a_refused_record_names_no_destination() {
        let refused: SubscriptionRecord<Secret> = SubscriptionRecord { destination: None, ..record() };
        let key = keys();
        let json = encode(&refused.clone().seal(&key, || [0; 12]).unwrap()).unwrap();
        assert!(!String::from_utf8_lossy(&json).contains("destination"));
        let read: SubscriptionRecord<Sealed> = decode(&json).unwrap();
        assert!(read.is_refused());
        assert_eq!(read.open(&key).unwrap(), refused);
    }
}
