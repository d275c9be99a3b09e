//! The record of a Subscription.

use serde::{Deserialize, Serialize};

use crate::delivery::policy::DeliveryPolicy;
use crate::destination::Destination;
use crate::nats::ids::{ProducerUid, SubscriptionUid};
use crate::seal::{Place, SealError, Sealed, SealingKey, Secret};
use crate::select::Selection;

/// A Subscription; `S` is [`Sealed`] in KV and [`Secret`] in memory. Each group of fields has its own type, which everyone
/// passes on whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionRecord<S> {
    /// [`crate::codec::VERSION`].
    pub version: u32,
    /// Which object this is.
    pub identity: Identity,
    /// The Producer whose events it gets.
    pub producer: ProducerUid,
    /// Which of them.
    pub select: Selection,
    /// Where they go.
    pub destination: Destination<S>,
    /// How they are delivered.
    pub delivery: DeliveryPolicy,
}

/// Which object a record is of, and which generation of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// The object's uid.
    pub uid: SubscriptionUid,
    /// Its generation.
    pub generation: i64,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl<S> SubscriptionRecord<S> {
    fn try_map<T, E>(self, turn: impl FnMut(S, &str) -> Result<T, E>) -> Result<SubscriptionRecord<T>, E> {
        let Self { version, identity, producer, select, destination, delivery } = self;
        let destination = destination.try_map(turn)?;
        Ok(SubscriptionRecord { version, identity, producer, select, destination, delivery })
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
        let uid = self.identity.uid.clone();
        self.try_map(|secret, field| key.seal(&secret, &Place { uid: uid.as_str(), field }, nonce()))
    }
}

impl SubscriptionRecord<Sealed> {
    /// The record with its secrets in the clear.
    ///
    /// # Errors
    /// If one of them does not open.
    pub fn open(self, key: &SealingKey) -> Result<SubscriptionRecord<Secret>, SealError> {
        let uid = self.identity.uid.clone();
        self.try_map(|sealed, field| key.open(&sealed, &Place { uid: uid.as_str(), field }))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;

    use super::*;
    use crate::codec::{VERSION, decode, encode};
    use crate::destination::{Header, HeaderValue};
    use crate::event::event_type::EventTypePattern;

    fn record() -> SubscriptionRecord<Secret> {
        let header = |name: &str, value| Header { name: name.into(), value };
        let (namespace, name) = ("shop".into(), "billing".into());
        SubscriptionRecord {
            version: VERSION,
            identity: Identity { uid: SubscriptionUid::parse("s-1").unwrap(), generation: 3, namespace, name },
            producer: ProducerUid::parse("p-1").unwrap(),
            select: Selection { event_types: vec![EventTypePattern::parse("order.*").unwrap()] },
            destination: Destination {
                url: "https://example.com/".into(),
                headers: vec![
                    header("x-team", HeaderValue::Plain("billing".into())),
                    header("authorization", HeaderValue::Secret(Secret::new("Bearer hush".into()))),
                ],
                signing: vec![Secret::new("whsec_hush".into())],
            },
            delivery: DeliveryPolicy::default(),
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
}
