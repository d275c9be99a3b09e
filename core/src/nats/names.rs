//! The names of what Hookwright keeps in NATS: streams, buckets, keys and subjects. Final: a change here is a migration.

use jiff::Timestamp;

use crate::nats::delivery_id::DeliveryId;
use crate::nats::ids::{EventSchemaUid, ProducerUid, SubscriptionUid};

/// The last token of the base's key, where others have the dispatcher's incarnation.
pub const BASE: &str = "base";

/// KV bucket of the records that dispatchers serve from. Keys: [`ConfigKey`].
pub const CONFIG_BUCKET: &str = "HOOKWRIGHT_CONFIG";
/// KV bucket of what the running system remembers: `disabled.<subscription>`, `checkpoint.<producer>`,
/// `violations.<producer>`, `test.<subscription>`.
pub const STATE_BUCKET: &str = "HOOKWRIGHT_STATE";
/// KV bucket of delivery counts: `<subscription>.<incarnation>`, and `<subscription>.base` for those that have gone.
pub const HEALTH_BUCKET: &str = "HOOKWRIGHT_HEALTH";
/// KV bucket, in memory, of the dispatchers' liveness leases: `<incarnation>`.
pub const LEASES_BUCKET: &str = "HOOKWRIGHT_LEASES";
/// Work queue of the deliveries that wait for their next attempt, as scheduled messages.
pub const PARKED_STREAM: &str = "HOOKWRIGHT_PARKED";
/// What could not be delivered.
pub const DEAD_LETTER_STREAM: &str = "HOOKWRIGHT_DEAD_LETTERS";
/// The durable consumer of due deliveries on [`PARKED_STREAM`].
pub const DUE_CONSUMER: &str = "due";
/// The subjects of [`PARKED_STREAM`].
pub const PARKED_SUBJECTS: &str = "hookwright.parked.>";
/// All subjects that [`parked_at`] makes.
pub const PARKED_AT_SUBJECTS: &str = "hookwright.parked.at.>";
/// The due deliveries that any dispatcher takes.
pub const PARKED_DUE_SUBJECTS: &str = "hookwright.parked.due.any.>";
/// The subjects of [`DEAD_LETTER_STREAM`].
pub const DEAD_LETTER_SUBJECTS: &str = "hookwright.dead.>";
/// The first token of every subject of ours; no Producer may use it.
pub const SUBJECT_PREFIX: &str = "hookwright.";
/// Metadata key of a managed stream: the uid of the Producer that owns it.
pub const STREAM_OWNER: &str = "hookwright.dev/producer-uid";
/// Metadata key of a managed stream: `Retain` or `Delete`, what becomes of it with its Producer. For the case that the
/// Producer goes while NATS is away, and nobody can be asked.
pub const STREAM_DELETION_POLICY: &str = "hookwright.dev/deletion-policy";

/// The subject under which a delivery waits; one schedule per subject, so parking twice is parking once.
#[must_use]
pub fn parked_at(subscription: &SubscriptionUid, id: &DeliveryId) -> String {
    format!("hookwright.parked.at.{subscription}.{id}")
}

/// All subjects that [`parked_at`] makes for this subscription.
#[must_use]
pub fn parked_at_all(subscription: &SubscriptionUid) -> String {
    format!("hookwright.parked.at.{subscription}.*")
}

/// The subject to which the server publishes a delivery when it is due.
#[must_use]
pub fn parked_due(subscription: &SubscriptionUid) -> String {
    format!("hookwright.parked.due.any.{subscription}")
}

/// The subject by which a test delivery comes to a dispatcher: one of the due ones, and no delivery that waits.
#[must_use]
pub fn test_due(subscription: &SubscriptionUid) -> String {
    format!("hookwright.parked.due.any.{subscription}.test")
}

/// The subject of a subscription's dead letters.
#[must_use]
pub fn dead_delivery(subscription: &SubscriptionUid) -> String {
    format!("hookwright.dead.s.{subscription}")
}

/// The subject of a producer's events that are themselves at fault.
#[must_use]
pub fn dead_event(producer: &ProducerUid) -> String {
    format!("hookwright.dead.p.{producer}")
}

/// The shared consumer of a producer's stream. The creation time of the stream is in it, so that a dispatcher with an
/// old record never reads a replaced stream under the old identity.
#[must_use]
pub fn shared_consumer(producer: &ProducerUid, stream_created: Timestamp) -> String {
    format!("hookwright-{producer}-{}", stream_created.as_nanosecond())
}

/// Key in [`STATE_BUCKET`]: the subscription is disabled, for the generation in the value.
#[must_use]
pub fn disabled_key(subscription: &SubscriptionUid) -> String {
    format!("disabled.{subscription}")
}

/// All keys that [`disabled_key`] makes.
pub const DISABLED_KEYS: &str = "disabled.*";

/// The subscription of a [`disabled_key`].
#[must_use]
pub fn parse_disabled_key(key: &str) -> Option<SubscriptionUid> {
    SubscriptionUid::parse(key.strip_prefix("disabled.")?).ok()
}

/// Key in [`STATE_BUCKET`]: how far the shared consumer has come.
#[must_use]
pub fn checkpoint_key(producer: &ProducerUid) -> String {
    format!("checkpoint.{producer}")
}

/// Key in [`STATE_BUCKET`]: how many events of a producer were not as their schemas say.
#[must_use]
pub fn violations_key(producer: &ProducerUid) -> String {
    format!("violations.{producer}")
}

/// All keys that [`violations_key`] makes.
pub const VIOLATIONS_KEYS: &str = "violations.*";

/// The producer of a [`violations_key`].
#[must_use]
pub fn parse_violations_key(key: &str) -> Option<ProducerUid> {
    ProducerUid::parse(key.strip_prefix("violations.")?).ok()
}

/// Key in [`STATE_BUCKET`]: the last test delivery that was asked for, and what came of it.
#[must_use]
pub fn test_key(subscription: &SubscriptionUid) -> String {
    format!("test.{subscription}")
}

/// All keys that [`test_key`] makes.
pub const TEST_KEYS: &str = "test.*";

/// The subscription of a [`test_key`].
#[must_use]
pub fn parse_test_key(key: &str) -> Option<SubscriptionUid> {
    SubscriptionUid::parse(key.strip_prefix("test.")?).ok()
}

/// Key in [`HEALTH_BUCKET`]: the counts of one dispatcher for one subscription.
#[must_use]
pub fn health_key(subscription: &SubscriptionUid, incarnation: &str) -> String {
    format!("{subscription}.{incarnation}")
}

/// Key in [`HEALTH_BUCKET`]: the counts of the dispatchers that have gone.
#[must_use]
pub fn health_base_key(subscription: &SubscriptionUid) -> String {
    health_key(subscription, BASE)
}

/// The subscription and the incarnation, or [`BASE`], of a key in [`HEALTH_BUCKET`].
#[must_use]
pub fn parse_health_key(key: &str) -> Option<(SubscriptionUid, &str)> {
    let (uid, incarnation) = key.split_once('.')?;
    Some((SubscriptionUid::parse(uid).ok()?, incarnation))
}

/// A key in [`CONFIG_BUCKET`]. It names the producer, so that a record which can't be read still says whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConfigKey {
    /// `producer.<producer>`.
    Producer(ProducerUid),
    /// `subscription.<producer>.<subscription>`.
    Subscription(ProducerUid, SubscriptionUid),
    /// `schema.<producer>.<event schema>`.
    Schema(ProducerUid, EventSchemaUid),
}

impl ConfigKey {
    /// Reads a key; none if it is not one of ours.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let mut tokens = key.split('.');
        let kind = tokens.next()?;
        let producer = ProducerUid::parse(tokens.next()?).ok()?;
        match (kind, tokens.next(), tokens.next()) {
            ("producer", None, None) => Some(Self::Producer(producer)),
            ("subscription", Some(uid), None) => Some(Self::Subscription(producer, SubscriptionUid::parse(uid).ok()?)),
            ("schema", Some(uid), None) => Some(Self::Schema(producer, EventSchemaUid::parse(uid).ok()?)),
            _ => None,
        }
    }

    /// The producer that it concerns.
    #[must_use]
    pub fn producer(&self) -> &ProducerUid {
        let (Self::Producer(producer) | Self::Subscription(producer, _) | Self::Schema(producer, _)) = self;
        producer
    }
}

impl std::fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Producer(producer) => write!(f, "producer.{producer}"),
            Self::Subscription(producer, subscription) => write!(f, "subscription.{producer}.{subscription}"),
            Self::Schema(producer, schema) => write!(f, "schema.{producer}.{schema}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_keys_round_trip() {
        for key in ["producer.p-1", "subscription.p-1.s-1", "schema.p-1.e-1"] {
            assert_eq!(ConfigKey::parse(key).unwrap().to_string(), key);
        }
        for key in
            ["producer", "schema.p", "producer.p.s", "subscription.p", "subscription.p.s.x", "other.p", "producer.P"]
        {
            assert_eq!(ConfigKey::parse(key), None, "{key}");
        }
    }
}
