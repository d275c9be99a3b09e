//! The names of everything that Hookwright keeps in NATS: streams, buckets, keys and subjects. A change of a name is a
//! migration.

use jiff::Timestamp;

use crate::nats::delivery_id::DeliveryId;
use crate::nats::ids::{EventSchemaUid, ProducerUid, SubscriptionUid};

/// The last token of the base's key in [`HEALTH_BUCKET`], where the keys of dispatchers have their incarnation.
pub const BASE: &str = "base";

/// The KV bucket of the records that dispatchers serve from. Its keys are [`ConfigKey`]s, those of
/// [`deleted_key`], [`INSTALLATION_KEY`]
/// and those of [`former_key`].
pub const CONFIG_BUCKET: &str = "HOOKWRIGHT_CONFIG";
/// The key of the [`Installation`](crate::record::Installation) in [`CONFIG_BUCKET`].
pub const INSTALLATION_KEY: &str = "installation";
/// All keys that [`former_key`] makes.
pub const FORMER_KEYS: &str = "former.>";
/// The beginning of the keys that [`former_key`] makes.
pub const FORMER_PREFIX: &str = "former.";
/// The KV bucket of the state that the running system remembers. Its keys are `disabled.<subscription>`,
/// `checkpoint.<producer>`, `violations.<producer>`, `grants.<producer>`, `test.<subscription>` and `dead.<namespace>`.
pub const STATE_BUCKET: &str = "HOOKWRIGHT_STATE";
/// The KV bucket of delivery counts. Its keys are `<subscription>.<incarnation>` for each dispatcher, and
/// `<subscription>.base` for the dispatchers that have gone.
pub const HEALTH_BUCKET: &str = "HOOKWRIGHT_HEALTH";
/// The KV bucket of the dispatchers' liveness leases, in memory. Its keys are `<incarnation>`, and those of
/// [`slot_key`].
pub const LEASES_BUCKET: &str = "HOOKWRIGHT_LEASES";
/// The KV bucket of positions ([`Position`](crate::position::Position)). Its keys are `<subscription>`.
pub const POSITIONS_BUCKET: &str = "HOOKWRIGHT_POSITIONS";
/// The KV bucket of the dedicated readers' cursors ([`Cursor`](crate::position::Cursor)). Its keys are `<subscription>`.
pub const CURSORS_BUCKET: &str = "HOOKWRIGHT_CURSORS";
/// The stream of the deliveries that wait for their next attempt, as scheduled messages. It is a work queue.
pub const PARKED_STREAM: &str = "HOOKWRIGHT_PARKED";
/// The stream of dead letters.
pub const DEAD_LETTER_STREAM: &str = "HOOKWRIGHT_DEAD_LETTERS";
/// The durable consumer of due deliveries on [`PARKED_STREAM`].
pub const DUE_CONSUMER: &str = "due";
/// The subjects of [`PARKED_STREAM`].
pub const PARKED_SUBJECTS: &str = "hookwright.parked.>";
/// The beginning of the subjects that [`parked_at`] makes.
pub const PARKED_AT_PREFIX: &str = "hookwright.parked.at.";
/// The beginning of the subjects of due deliveries.
pub const PARKED_DUE_PREFIX: &str = "hookwright.parked.due.any.";
/// All subjects that [`parked_at`] makes.
pub const PARKED_AT_SUBJECTS: &str = "hookwright.parked.at.>";
/// The subjects of due deliveries, which any dispatcher may take.
pub const PARKED_DUE_SUBJECTS: &str = "hookwright.parked.due.any.>";
/// The subjects of [`DEAD_LETTER_STREAM`].
pub const DEAD_LETTER_SUBJECTS: &str = "hookwright.dead.>";
/// The prefix of every stream and bucket of Hookwright's own. No Producer may use it.
pub const STREAM_PREFIX: &str = "HOOKWRIGHT_";
/// The prefix of every subject of Hookwright's own. No Producer may use it.
pub const SUBJECT_PREFIX: &str = "hookwright.";
/// The metadata key of a managed stream for the uid of the Producer that owns the stream.
pub const STREAM_OWNER: &str = "hookwright.dev/producer-uid";
/// The metadata key of a managed stream for `namespace/name` of its Producer.
pub const STREAM_PRODUCER: &str = "hookwright.dev/producer";
/// The metadata key of a managed stream for the uid of its Producer's namespace.
pub const STREAM_NAMESPACE_UID: &str = "hookwright.dev/namespace-uid";
/// The metadata key of a stream whose Producer is gone for the sequence up to which all events are done.
pub const STREAM_DONE: &str = "hookwright.dev/done-up-to";
/// The metadata key of a managed stream for its deletion policy, `Retain` or `Delete`. It is needed if the Producer is
/// gone before NATS could be reached, so that its spec can't be read any more.
pub const STREAM_DELETION_POLICY: &str = "hookwright.dev/deletion-policy";

/// The subject under which a delivery waits. NATS keeps one schedule for each subject, so parking a delivery twice
/// parks it once.
#[must_use]
pub fn parked_at(subscription: &SubscriptionUid, id: &DeliveryId) -> String {
    format!("hookwright.parked.at.{subscription}.{id}")
}

/// All subjects that [`parked_at`] makes for one Subscription.
#[must_use]
pub fn parked_at_all(subscription: &SubscriptionUid) -> String {
    format!("hookwright.parked.at.{subscription}.*")
}

/// The subject to which the NATS server publishes a delivery when it is due.
#[must_use]
pub fn parked_due(subscription: &SubscriptionUid) -> String {
    format!("hookwright.parked.due.any.{subscription}")
}

/// The subject by which a test delivery comes to a dispatcher. It is one of [`PARKED_DUE_SUBJECTS`], but doesn't count
/// as a waiting delivery.
#[must_use]
pub fn test_due(subscription: &SubscriptionUid) -> String {
    format!("hookwright.parked.due.any.{subscription}.test")
}

/// The subject of the dead letters of a Subscription's deliveries.
#[must_use]
pub fn dead_delivery(subscription: &SubscriptionUid) -> String {
    format!("hookwright.dead.s.{subscription}")
}

/// The subject of the dead letters of a Producer's events that are themselves at fault.
#[must_use]
pub fn dead_event(producer: &ProducerUid) -> String {
    format!("hookwright.dead.p.{producer}")
}

/// The name of the shared consumer of a Producer's stream. It contains the creation time of the stream, so that a
/// dispatcher with an old record never reads a new stream of the same name as if it were the old one.
#[must_use]
pub fn shared_consumer(producer: &ProducerUid, stream_created: Timestamp) -> String {
    format!("hookwright-{producer}-{}", stream_created.as_nanosecond())
}

/// The key of a [`Disabled`](crate::record::Disabled) in [`STATE_BUCKET`].
#[must_use]
pub fn disabled_key(subscription: &SubscriptionUid) -> String {
    format!("disabled.{subscription}")
}

/// All keys that [`disabled_key`] makes.
pub const DISABLED_KEYS: &str = "disabled.*";

/// The Subscription of a [`disabled_key`]; `None` for any other key.
#[must_use]
pub fn parse_disabled_key(key: &str) -> Option<SubscriptionUid> {
    SubscriptionUid::parse(key.strip_prefix("disabled.")?).ok()
}

/// The key of a [`Checkpoint`](crate::record::Checkpoint) in [`STATE_BUCKET`].
#[must_use]
pub fn checkpoint_key(producer: &ProducerUid) -> String {
    format!("checkpoint.{producer}")
}

/// The key of a Producer's [`Grants`](crate::record::Grants) in [`STATE_BUCKET`].
#[must_use]
pub fn grants_key(producer: &ProducerUid) -> String {
    format!("grants.{producer}")
}

/// The key of a [`Violations`](crate::record::Violations) in [`STATE_BUCKET`].
#[must_use]
pub fn violations_key(producer: &ProducerUid) -> String {
    format!("violations.{producer}")
}

/// All keys that [`violations_key`] makes.
pub const VIOLATIONS_KEYS: &str = "violations.*";

/// The Producer of a [`violations_key`]; `None` for any other key.
#[must_use]
pub fn parse_violations_key(key: &str) -> Option<ProducerUid> {
    ProducerUid::parse(key.strip_prefix("violations.")?).ok()
}

/// The key of a [`DeadLetterBytes`](crate::record::DeadLetterBytes) in [`STATE_BUCKET`].
#[must_use]
pub fn dead_letter_bytes_key(namespace: &str) -> String {
    format!("dead.{namespace}")
}

/// All keys that [`dead_letter_bytes_key`] makes.
pub const DEAD_LETTER_BYTES_KEYS: &str = "dead.*";

/// The namespace of a [`dead_letter_bytes_key`]; `None` for any other key.
#[must_use]
pub fn parse_dead_letter_bytes_key(key: &str) -> Option<&str> {
    key.strip_prefix("dead.")
}

/// The key of a [`TestRecord`](crate::delivery::test_delivery::TestRecord) in [`STATE_BUCKET`].
#[must_use]
pub fn test_key(subscription: &SubscriptionUid) -> String {
    format!("test.{subscription}")
}

/// All keys that [`test_key`] makes.
pub const TEST_KEYS: &str = "test.*";

/// The Subscription of a [`test_key`]; `None` for any other key.
#[must_use]
pub fn parse_test_key(key: &str) -> Option<SubscriptionUid> {
    SubscriptionUid::parse(key.strip_prefix("test.")?).ok()
}

/// The key of a [`Former`](crate::record::Former) in [`CONFIG_BUCKET`]. Neither part has a dot in it.
#[must_use]
pub fn former_key(kind: &str, namespace: &str, name: &str) -> String {
    format!("{FORMER_PREFIX}{kind}.{namespace}.{name}")
}

/// The key of a deleted Subscription's [`Deleted`](crate::record::Deleted) in [`CONFIG_BUCKET`]. It is written before the
/// Subscription's record is removed, and stays until nothing is parked for the Subscription any more.
#[must_use]
pub fn deleted_key(subscription: &SubscriptionUid) -> String {
    format!("deleted.{subscription}")
}

/// All keys that [`deleted_key`] makes.
pub const DELETED_KEYS: &str = "deleted.*";

/// The Subscription of a [`deleted_key`]; `None` for any other key.
#[must_use]
pub fn parse_deleted_key(key: &str) -> Option<SubscriptionUid> {
    SubscriptionUid::parse(key.strip_prefix("deleted.")?).ok()
}

/// The key of one dispatcher's counts for one Subscription in [`HEALTH_BUCKET`].
#[must_use]
pub fn health_key(subscription: &SubscriptionUid, incarnation: &str) -> String {
    format!("{subscription}.{incarnation}")
}

/// The key of the counts of dispatchers that have gone in [`HEALTH_BUCKET`].
#[must_use]
pub fn health_base_key(subscription: &SubscriptionUid) -> String {
    health_key(subscription, BASE)
}

/// The Subscription and the incarnation, or [`BASE`], of a key in [`HEALTH_BUCKET`]; `None` for any other key.
#[must_use]
pub fn parse_health_key(key: &str) -> Option<(SubscriptionUid, &str)> {
    let (uid, incarnation) = key.split_once('.')?;
    Some((SubscriptionUid::parse(uid).ok()?, parse_incarnation_key(incarnation)?))
}

/// The key of a slot's lease in [`LEASES_BUCKET`].
#[must_use]
pub fn slot_key(slot: u8) -> String {
    format!("slot.{slot}")
}

/// The slot of a [`slot_key`]; `None` for any other key.
#[must_use]
pub fn parse_slot_key(key: &str) -> Option<u8> {
    key.strip_prefix("slot.")?.parse().ok()
}

/// The incarnation of a dispatcher by the key of its lease in [`LEASES_BUCKET`]; `None` for a [`slot_key`], and for a key
/// that no dispatcher can have.
#[must_use]
pub fn parse_incarnation_key(key: &str) -> Option<&str> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    ((1..=64).contains(&key.len()) && key.bytes().all(allowed)).then_some(key)
}

/// A key in [`CONFIG_BUCKET`]. It names the Producer, so that a dispatcher knows which Producer a record belongs to
/// even if it can't read the record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConfigKey {
    /// The key of a Producer: `producer.<producer>`.
    Producer(ProducerUid),
    /// The key of a Subscription: `subscription.<producer>.<subscription>`.
    Subscription(ProducerUid, SubscriptionUid),
    /// The key of an EventSchema: `schema.<producer>.<event schema>`.
    Schema(ProducerUid, EventSchemaUid),
}

impl ConfigKey {
    /// Reads a key; `None` if it doesn't have one of these forms.
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

    /// The Producer that the record belongs to.
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

    #[test]
    fn a_lease_is_a_dispatchers_or_a_slots_or_nobodys() {
        for (key, is_dispatchers, slot) in [
            ("00c0ffee00c0ffee", true, None),
            (&*slot_key(7), false, Some(7)),
            ("slot.1000", false, None),
            ("a.b", false, None),
            ("A", false, None),
            ("", false, None),
            (&*"a".repeat(65), false, None),
        ] {
            assert_eq!((parse_incarnation_key(key).is_some(), parse_slot_key(key)), (is_dispatchers, slot), "{key}");
        }
        for (key, incarnation) in
            [("s-1.base", Some(BASE)), ("s-1.c0ffee", Some("c0ffee")), ("s-1.*", None), ("s-1.a.b", None)]
        {
            assert_eq!(parse_health_key(key).map(|(_, incarnation)| incarnation), incarnation, "{key}");
        }
    }
}
