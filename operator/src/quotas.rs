//! How much a namespace may have: objects, and what its streams may take of NATS.
//!
//! What is beyond is not accepted, the youngest first. The API server tells the age of an object in whole seconds; within
//! one, what was accepted before counts first. What a stream has already is not given to an older Producer's edit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hookwright_crds::{ConditionStatus, ConditionType, Producer, Reason, Storage, StreamPolicy, Subscription};
use hookwright_runtime::settings::{Bytes, duration};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Deserialize;

use crate::cache::references::stream_name;
use crate::cache::stream_sizes::Taken;
use crate::refusal::Refusal;
use crate::status::conditions::find;

/// The quotas of all namespaces.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Settings")]
pub struct Quotas {
    /// The quota of a namespace that isn't listed.
    others: Quota,
    namespaces: HashMap<String, Quota>,
}

impl Quotas {
    /// Returns the quota of a namespace.
    pub(crate) fn of(&self, namespace: &str) -> &Quota {
        self.namespaces.get(namespace).unwrap_or(&self.others)
    }
}

/// How much a namespace may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) producers: usize,
    pub(crate) subscriptions: usize,
    pub(crate) event_schemas: usize,
    /// The bytes that all managed streams may take, copies included: in files, and in memory.
    pub(crate) stream_bytes: u64,
    pub(crate) memory_bytes: u64,
    /// The bytes of a stream that doesn't say how many it takes.
    pub(crate) default_max_bytes: u64,
    pub(crate) replicas: usize,
    pub(crate) max_age: Duration,
    pub(crate) duplicate_window: Duration,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            producers: 100,
            subscriptions: 10_000,
            event_schemas: 1000,
            stream_bytes: 100 << 30,
            memory_bytes: 4 << 30,
            default_max_bytes: 1 << 30,
            replicas: 5,
            max_age: Duration::from_secs(365 * 24 * 3600),
            duplicate_window: Duration::from_secs(3600),
        }
    }
}

/// The settings as they are written.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Settings {
    producers: Option<usize>,
    subscriptions: Option<usize>,
    event_schemas: Option<usize>,
    stream_bytes: Option<Bytes>,
    memory_bytes: Option<Bytes>,
    default_max_bytes: Option<Bytes>,
    replicas: Option<usize>,
    max_age: Option<Span>,
    duplicate_window: Option<Span>,
    namespaces: HashMap<String, NamespaceSettings>,
}

/// What a namespace has instead.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct NamespaceSettings {
    producers: Option<usize>,
    subscriptions: Option<usize>,
    event_schemas: Option<usize>,
    stream_bytes: Option<Bytes>,
    memory_bytes: Option<Bytes>,
    default_max_bytes: Option<Bytes>,
    replicas: Option<usize>,
    max_age: Option<Span>,
    duplicate_window: Option<Span>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(transparent)]
struct Span(#[serde(deserialize_with = "duration::deserialize")] Duration);

impl From<Settings> for Quotas {
    fn from(settings: Settings) -> Self {
        let Settings { producers, subscriptions, event_schemas, stream_bytes, memory_bytes, default_max_bytes, .. } =
            settings;
        let Settings { replicas, max_age, duplicate_window, namespaces, .. } = settings;
        let given = NamespaceSettings {
            producers,
            subscriptions,
            event_schemas,
            stream_bytes,
            memory_bytes,
            default_max_bytes,
            replicas,
            max_age,
            duplicate_window,
        };
        let others = Quota::default().changed(given);
        let namespaces = namespaces.into_iter().map(|(name, given)| (name, others.changed(given)));
        Self { namespaces: namespaces.collect(), others }
    }
}

impl Quota {
    fn changed(&self, given: NamespaceSettings) -> Self {
        let bytes = |given: Option<Bytes>, else_: u64| given.map_or(else_, Bytes::get);
        Self {
            producers: given.producers.unwrap_or(self.producers),
            subscriptions: given.subscriptions.unwrap_or(self.subscriptions),
            event_schemas: given.event_schemas.unwrap_or(self.event_schemas),
            stream_bytes: bytes(given.stream_bytes, self.stream_bytes),
            memory_bytes: bytes(given.memory_bytes, self.memory_bytes),
            default_max_bytes: bytes(given.default_max_bytes, self.default_max_bytes),
            replicas: given.replicas.unwrap_or(self.replicas),
            max_age: given.max_age.map_or(self.max_age, |span| span.0),
            duplicate_window: given.duplicate_window.map_or(self.duplicate_window, |span| span.0),
        }
    }

    /// Checks whether a Subscription is among the oldest of its namespace's, which `all` lists.
    pub(crate) fn admits_subscription(
        &self,
        subscription: &Subscription,
        all: &[Arc<Subscription>],
    ) -> Result<(), Refusal> {
        let age = subscription_age(subscription);
        let is_older = |other: &&Arc<Subscription>| other.uid() != subscription.uid() && subscription_age(other) < age;
        let older = all.iter().filter(is_older).count();
        if older < self.subscriptions { Ok(()) } else { Err(beyond("Subscriptions", self.subscriptions)) }
    }

    /// Checks whether a Producer is among the oldest of its namespace's, which `all` lists, and whether its stream has
    /// room. `taken` is what the namespace's streams take now, by their names, those of deleted Producers included.
    /// Returns what the stream may take, if the Producer manages one.
    ///
    /// A stream that is to take no more than it does needs room beside those of older Producers. One that is new or is to
    /// take more needs room beside all others, which keep what they have.
    pub(crate) fn admits_producer(
        &self,
        producer: &Producer,
        all: &[Arc<Producer>],
        taken: &HashMap<String, Taken>,
    ) -> Result<Option<Taken>, Refusal> {
        let mut older: Vec<_> = all.iter().filter(|other| other.uid() != producer.uid()).collect();
        older.retain(|other| producer_age(other) < producer_age(producer));
        older.sort_by_key(|other| producer_age(other));
        if older.len() >= self.producers {
            return Err(beyond("Producers", self.producers));
        }
        let Some(wanted) = self.asks_for(producer) else { return Ok(None) };
        let name = stream_name(producer);
        let takes = |stream: &str| taken.get(stream).filter(|taken| taken.storage == wanted.storage);
        let more = takes(&name).is_none_or(|now| now.bytes < wanted.bytes);
        let most = self.most(wanted.storage);
        let others = taken.iter().filter(|(other, taken)| **other != name && taken.storage == wanted.storage);
        let others = others.fold(0, |sum: u64, (_, taken)| sum.saturating_add(taken.bytes));
        let mut used = if more { others } else { 0 };
        for other in older.into_iter().take(self.producers) {
            let Some(asked) = self.asks_for(other).filter(|asked| asked.storage == wanted.storage) else { continue };
            let bytes = match takes(&stream_name(other)) {
                Some(_) if more => 0,
                // What an edit asks for beyond it may not be admitted.
                Some(now) => now.bytes.min(asked.bytes),
                None if more => asked.bytes,
                None => 0,
            };
            // What has no room itself takes none from others.
            if bytes <= most.saturating_sub(used) {
                used += bytes;
            }
        }
        let left = most.saturating_sub(used);
        if wanted.bytes <= left { Ok(Some(wanted)) } else { Err(no_room(wanted, left, most)) }
    }

    /// Returns what the stream takes that a Producer asks for, if it manages one.
    fn asks_for(&self, producer: &Producer) -> Option<Taken> {
        let default = hookwright_crds::Stream::default();
        let stream = producer.spec.stream.as_ref().unwrap_or(&default);
        if stream.policy == Some(StreamPolicy::Existing) {
            return None;
        }
        let bytes = stream.max_bytes.as_ref().and_then(|bytes| bytes.to_bytes()).unwrap_or(self.default_max_bytes);
        let copies = u64::try_from(stream.replicas.unwrap_or(1)).unwrap_or(1);
        Some(Taken { storage: stream.storage.unwrap_or_default(), bytes: bytes.saturating_mul(copies) })
    }

    /// Returns the bytes that all managed streams may take in this storage, copies included.
    pub(crate) fn most(&self, storage: Storage) -> u64 {
        match storage {
            Storage::File => self.stream_bytes,
            Storage::Memory => self.memory_bytes,
        }
    }
}

fn no_room(wanted: Taken, left: u64, most: u64) -> Refusal {
    let kind = match wanted.storage {
        Storage::File => "in files",
        Storage::Memory => "in memory",
    };
    let message = format!(
        "The stream would take {} bytes {kind} (maxBytes times replicas), and the namespace has {left} of {most} left. \
         Streams that stayed when their Producers were deleted (deletionPolicy Retain) count, too.",
        wanted.bytes
    );
    Refusal::new(Reason::QuotaExceeded, message)
}

pub(crate) fn beyond(kind: &str, most: usize) -> Refusal {
    Refusal::new(Reason::QuotaExceeded, format!("The namespace may have {most} {kind}, and has as many older ones."))
}

/// By this key the older of two objects counts first, in whatever order they are looked at.
pub(crate) type Age = (Option<Timestamp>, bool, Option<String>);

/// Returns the age of an object. `is_accepted` decides between objects of the same second.
pub(crate) fn age(object: &impl ResourceExt, is_accepted: bool) -> Age {
    (object.creation_timestamp().map(|time| time.0), !is_accepted, object.uid())
}

fn subscription_age(object: &Subscription) -> Age {
    age(object, is_accepted(object.status.as_ref().and_then(|status| status.conditions.as_deref())))
}

fn producer_age(object: &Producer) -> Age {
    age(object, is_accepted(object.status.as_ref().and_then(|status| status.conditions.as_deref())))
}

fn is_accepted(conditions: Option<&[Condition]>) -> bool {
    let accepted = find(conditions.unwrap_or_default(), ConditionType::Accepted);
    accepted.is_some_and(|accepted| accepted.status == ConditionStatus::True.as_str())
}

/// Returns whether an object is refused because its namespace has as much as it may have.
pub(crate) fn is_beyond(conditions: Option<&[Condition]>) -> bool {
    let accepted = find(conditions.unwrap_or_default(), ConditionType::Accepted);
    accepted.is_some_and(|accepted| accepted.reason == Reason::QuotaExceeded.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn quotas(settings: Value) -> Quotas {
        serde_json::from_value(settings).unwrap()
    }

    fn producer(second: u32, stream: Value) -> Producer {
        let metadata = json!({
            "namespace": "shop", "name": format!("p{second}"), "uid": format!("p-{second}"),
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
        });
        let spec = json!({ "subjects": ["shop.a"], "stream": stream });
        let object =
            json!({ "apiVersion": "hookwright.dev/v1alpha1", "kind": "Producer", "metadata": metadata, "spec": spec });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_namespace_has_its_own_quota_and_the_common_one_where_it_says_nothing() {
        let quotas = quotas(json!({
            "producers": 7, "eventSchemas": 8, "maxAge": "24h", "namespaces": { "shop": { "streamBytes": "1Gi", "producers": 9 } },
        }));
        let (shop, other) = (quotas.of("shop"), quotas.of("other"));
        assert_eq!((shop.producers, shop.stream_bytes, shop.max_age), (9, 1 << 30, Duration::from_secs(86_400)));
        assert_eq!((other.producers, other.stream_bytes), (7, Quota::default().stream_bytes));
        assert_eq!((shop.event_schemas, shop.subscriptions), (8, 10000));
        for bad in [json!({ "maxAge": 5 }), json!({ "streamBytes": 0 }), json!({ "namespaces": { "a": { "b": 1 } } })] {
            assert!(serde_json::from_value::<Quotas>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_youngest_producer_is_beyond() {
        let quotas = quotas(json!({
            "producers": 3, "streamBytes": 100, "memoryBytes": 10, "defaultMaxBytes": 60,
        }));
        for (streams, want) in [
            (vec![json!({}), json!({ "maxBytes": 40 })], vec![true, true]),
            (vec![json!({}), json!({})], vec![true, false]),
            // What has no room itself takes none from a younger one.
            (vec![json!({}), json!({}), json!({ "maxBytes": 40 })], vec![true, false, true]),
            (vec![json!({ "maxBytes": 30, "replicas": 3 }), json!({ "maxBytes": 11 })], vec![true, false]),
            (vec![json!({ "maxBytes": 30, "replicas": 3 }), json!({ "maxBytes": 10 })], vec![true, true]),
            (vec![json!({ "storage": "Memory", "maxBytes": 10 }), json!({})], vec![true, true]),
            (vec![json!({ "storage": "Memory" })], vec![false]),
            (vec![json!({ "policy": "Existing", "name": "shop_x" }), json!({ "maxBytes": 100 })], vec![true, true]),
            (vec![json!({ "maxBytes": 1 }); 4], vec![true, true, true, false]),
        ] {
            let producers: Vec<_> =
                (1..).zip(&streams).map(|(second, stream)| producer(second, stream.clone())).collect();
            let all: Vec<_> = producers.iter().rev().cloned().map(Arc::new).collect();
            let none = HashMap::new();
            let got: Vec<_> =
                producers.iter().map(|one| quotas.of("shop").admits_producer(one, &all, &none).is_ok()).collect();
            assert_eq!(got, want, "{streams:?}");
        }
    }

    #[test]
    fn what_streams_have_is_not_given_to_an_edit_nor_what_deleted_producers_left() {
        let quotas = quotas(json!({ "streamBytes": 100, "memoryBytes": 100 }));
        for (asked, taken, left, want) in [
            // The older one asks for more than there is; the other keeps what it has.
            (vec![50, 60], vec![Some(10), Some(60)], 0, vec![false, true]),
            (vec![40, 60], vec![Some(10), Some(60)], 0, vec![true, true]),
            (vec![100, 99], vec![Some(1), Some(99)], 0, vec![false, true]),
            (vec![10, 95], vec![Some(10), Some(60)], 0, vec![true, false]),
            // It asks for less, and the other for more, once NATS has it.
            (vec![10, 90], vec![Some(60), Some(40)], 0, vec![true, false]),
            (vec![10, 90], vec![Some(10), Some(40)], 0, vec![true, true]),
            // The older one has had no stream until now.
            (vec![50, 60], vec![None, Some(60)], 0, vec![false, true]),
            // There were no streams, and the younger one would leave the older one without room.
            (vec![50, 60], vec![None, None], 0, vec![true, false]),
            // The quota is lower than it was.
            (vec![60, 60], vec![Some(60), Some(60)], 0, vec![true, false]),
            (vec![200, 60], vec![Some(200), Some(60)], 0, vec![false, true]),
            // Streams stayed of Producers that are gone.
            (vec![60, 30], vec![Some(60), None], 20, vec![true, false]),
            (vec![60, 20], vec![Some(60), None], 20, vec![true, true]),
            (vec![60, 40], vec![Some(60), Some(40)], 900, vec![true, true]),
        ] {
            let producers: Vec<_> =
                (1..).zip(&asked).map(|(second, bytes)| producer(second, json!({ "maxBytes": bytes }))).collect();
            let all: Vec<_> = producers.iter().cloned().map(Arc::new).collect();
            let has = |(producer, bytes): (&Producer, &Option<u64>)| Some((stream_name(producer), file((*bytes)?)));
            let mut streams: HashMap<_, _> = producers.iter().zip(&taken).filter_map(has).collect();
            streams.insert("shop_gone".to_owned(), file(left));
            streams.insert("shop_memory".to_owned(), Taken { storage: Storage::Memory, bytes: 100 });
            let admits = |one: &Producer| quotas.of("shop").admits_producer(one, &all, &streams).is_ok();
            assert_eq!(producers.iter().map(admits).collect::<Vec<_>>(), want, "{asked:?} {taken:?} {left}");
        }
    }

    fn file(bytes: u64) -> Taken {
        Taken { storage: Storage::File, bytes }
    }

    #[test]
    fn within_a_second_what_was_accepted_before_counts_first() {
        let quotas = quotas(json!({ "producers": 1 }));
        let (mut first, second) = (producer(1, json!({})), producer(1, json!({})));
        first.metadata.uid = Some("z".into());
        let status = json!({ "conditions": [{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] });
        first.status = serde_json::from_value(status).unwrap();
        let all = [&first, &second].map(|one| Arc::new(one.clone()));
        let admitted = |one: &Producer| quotas.of("shop").admits_producer(one, &all, &HashMap::new());
        assert!(admitted(&first).is_ok());
        assert_eq!(admitted(&second).unwrap_err().reason, Reason::QuotaExceeded);
    }
}
