//! The subscription index: what the config bucket says, ready to be matched and looked up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hookwright_core::event::attribute_value;
use hookwright_core::nats::ids::{EventSchemaUid, ProducerUid, SubscriptionUid};
use hookwright_core::nats::names::ConfigKey;
use hookwright_core::record::{ProducerRecord, Validation};
use hookwright_core::schema::{EventSchema, Violation};
use hookwright_core::select::index::Matcher;
use http::HeaderValue;
use tokio::sync::watch;

use crate::config::schema::Schema;
use crate::config::subscription::Subscription;

/// A producer as the dispatcher serves it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) record: ProducerRecord,
    /// The CloudEvents `source` of its events that have none.
    pub(crate) source: HeaderValue,
}

impl Producer {
    pub(crate) fn new(record: ProducerRecord) -> Self {
        let source = attribute_value(&format!("/namespaces/{}/producers/{}", record.namespace, record.name));
        Self { record, source }
    }
}

/// What there is under a subscription's uid.
pub(crate) enum Lookup {
    /// It is served.
    Serving(Arc<Subscription>, Arc<Producer>),
    /// It is there, and its producer can't be served now.
    Waiting,
    /// No such subscription at this revision.
    Absent {
        /// Up to where the config is loaded.
        loaded: u64,
    },
}

/// Who wants an event, as of a version of the index.
pub(crate) struct Matches {
    pub(crate) subscriptions: Vec<Arc<Subscription>>,
    pub(crate) version: u64,
}

/// The producers to read from, by uid.
pub(crate) type Serving = BTreeMap<ProducerUid, Arc<Producer>>;

/// The index. Readers hold its lock for a look-up, never across an await.
pub(crate) struct Index {
    inner: RwLock<Inner>,
    /// Of `inner`: another one after each change.
    version: AtomicU64,
    loaded: watch::Sender<u64>,
    serving: watch::Sender<Serving>,
}

#[derive(Default)]
struct Inner {
    producers: HashMap<ProducerUid, Entry>,
    subscriptions: HashMap<SubscriptionUid, Arc<Subscription>>,
}

#[derive(Default)]
struct Entry {
    producer: Option<Arc<Producer>>,
    matcher: Matcher<SubscriptionUid, Arc<Subscription>>,
    /// By event type; the operator sees to it that there is one for each.
    schemas: HashMap<String, BTreeMap<EventSchemaUid, Schema>>,
    /// Those of them that can't be compiled. While there is one, a producer that enforces is not served.
    unusable: BTreeSet<EventSchemaUid>,
    /// The records of this producer that can't be read, and why. While there is one, the producer is not served.
    unreadable: BTreeMap<String, String>,
}

impl Entry {
    fn served(&self) -> Option<&Arc<Producer>> {
        self.producer.as_ref().filter(|_| !self.is_barred())
    }

    /// Whether the producer can't be served as its records are.
    fn is_barred(&self) -> bool {
        let enforces = |producer: &Arc<Producer>| producer.record.validation == Validation::Enforce;
        !self.unreadable.is_empty() || !self.unusable.is_empty() && self.producer.as_ref().is_some_and(enforces)
    }

    fn remove_schema(&mut self, uid: &EventSchemaUid) {
        self.unusable.remove(uid);
        self.schemas.retain(|_, schemas| {
            schemas.remove(uid);
            !schemas.is_empty()
        });
    }

    fn is_empty(&self) -> bool {
        self.producer.is_none() && self.matcher.is_empty() && self.schemas.is_empty() && self.unreadable.is_empty()
    }
}

impl Index {
    pub(crate) fn new() -> Arc<Self> {
        let (loaded, serving) = (watch::Sender::new(0), watch::Sender::new(Serving::new()));
        Arc::new(Self { inner: RwLock::default(), version: AtomicU64::new(0), loaded, serving })
    }

    /// The config revision that is loaded.
    pub(crate) fn loaded(&self) -> watch::Receiver<u64> {
        self.loaded.subscribe()
    }

    /// The producers to read from.
    pub(crate) fn serving(&self) -> watch::Receiver<Serving> {
        self.serving.subscribe()
    }

    /// Who wants this event type; none if the producer is not served any more.
    pub(crate) fn matches(&self, producer: &ProducerUid, event_type: &str) -> Option<Matches> {
        let inner = self.read();
        let entry = inner.producers.get(producer)?;
        entry.served()?;
        Some(Matches { subscriptions: entry.matcher.matches(event_type), version: self.version() })
    }

    /// As long as it is the same, a look-up finds what was matched.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The producer, if it is served.
    pub(crate) fn producer(&self, uid: &ProducerUid) -> Option<Arc<Producer>> {
        self.read().producers.get(uid).and_then(Entry::served).cloned()
    }

    /// The schema of an event type; or as what an event violates that there is none to hold it against.
    pub(crate) fn schema(&self, producer: &ProducerUid, event_type: &str) -> Result<Arc<EventSchema>, Violation> {
        let inner = self.read();
        let schemas = inner.producers.get(producer).and_then(|entry| entry.schemas.get(event_type));
        let schema = schemas.and_then(|schemas| schemas.values().next()).ok_or_else(Violation::no_schema)?;
        schema.compiled.clone().ok_or_else(Violation::unusable_schema)
    }

    /// Whether there is anything of this producer.
    pub(crate) fn knows(&self, producer: &ProducerUid) -> bool {
        self.read().producers.contains_key(producer)
    }

    /// Whoever needs the version of what is found asks for it before.
    pub(crate) fn lookup(&self, subscription: &SubscriptionUid) -> Lookup {
        let inner = self.read();
        let Some(found) = inner.subscriptions.get(subscription) else {
            return Lookup::Absent { loaded: *self.loaded.borrow() };
        };
        match inner.producers.get(&found.producer).and_then(Entry::served) {
            Some(producer) => Lookup::Serving(Arc::clone(found), Arc::clone(producer)),
            None => Lookup::Waiting,
        }
    }

    /// The subscription, whatever its producer's state.
    pub(crate) fn subscription(&self, uid: &SubscriptionUid) -> Option<Arc<Subscription>> {
        self.read().subscriptions.get(uid).cloned()
    }

    pub(crate) fn put_producer(&self, record: ProducerRecord) {
        let mut inner = self.write();
        let key = ConfigKey::Producer(record.uid.clone()).to_string();
        let entry = inner.producers.entry(record.uid.clone()).or_default();
        entry.unreadable.remove(&key);
        entry.producer = Some(Arc::new(Producer::new(record)));
    }

    pub(crate) fn put_subscription(&self, subscription: Arc<Subscription>) {
        let mut inner = self.write();
        let newer = |known: &Arc<Subscription>| {
            known.producer != subscription.producer && known.revision > subscription.revision
        };
        if inner.subscriptions.get(&subscription.uid).is_some_and(newer) {
            // Left over from another producer of the same name.
            return;
        }
        let former = inner.subscriptions.insert(subscription.uid.clone(), Arc::clone(&subscription));
        let former = former.filter(|former| former.producer != subscription.producer);
        if let Some(entry) = former.and_then(|former| inner.producers.get_mut(&former.producer)) {
            entry.matcher.remove(&subscription.uid);
        }
        let key = ConfigKey::Subscription(subscription.producer.clone(), subscription.uid.clone()).to_string();
        let entry = inner.producers.entry(subscription.producer.clone()).or_default();
        entry.unreadable.remove(&key);
        entry.matcher.insert(&subscription.uid, &subscription.select.event_types, &subscription);
    }

    /// Whether the schema from this very record is there. Then it stays.
    pub(crate) fn keep_schema(&self, producer: &ProducerUid, uid: &EventSchemaUid, record: &[u8]) -> bool {
        let mut inner = self.write();
        let Some(entry) = inner.producers.get_mut(producer) else { return false };
        let mut known = entry.schemas.values().filter_map(|schemas| schemas.get(uid));
        let kept = known.any(|schema| schema.is_of(record));
        if kept {
            entry.unreadable.remove(&ConfigKey::Schema(producer.clone(), uid.clone()).to_string());
        }
        kept
    }

    pub(crate) fn put_schema(&self, producer: &ProducerUid, uid: &EventSchemaUid, schema: Schema) {
        let mut inner = self.write();
        let key = ConfigKey::Schema(producer.clone(), uid.clone()).to_string();
        let entry = inner.producers.entry(producer.clone()).or_default();
        entry.unreadable.remove(&key);
        entry.remove_schema(uid);
        if schema.compiled.is_none() {
            entry.unusable.insert(uid.clone());
        }
        entry.schemas.entry(schema.event_type.clone()).or_default().insert(uid.clone(), schema);
    }

    pub(crate) fn put_unreadable(&self, key: &ConfigKey, reason: String) {
        let mut inner = self.write();
        inner.producers.entry(key.producer().clone()).or_default().unreadable.insert(key.to_string(), reason);
    }

    pub(crate) fn remove(&self, key: &ConfigKey) {
        let mut inner = self.write();
        let producer = key.producer();
        if let ConfigKey::Subscription(_, subscription) = key {
            // Not if it lives on under another producer of the same name.
            if inner.subscriptions.get(subscription).is_some_and(|found| found.producer == *producer) {
                inner.subscriptions.remove(subscription);
            }
        }
        let Some(entry) = inner.producers.get_mut(producer) else { return };
        entry.unreadable.remove(&key.to_string());
        match key {
            ConfigKey::Producer(_) => entry.producer = None,
            ConfigKey::Subscription(_, subscription) => entry.matcher.remove(subscription),
            ConfigKey::Schema(_, schema) => entry.remove_schema(schema),
        }
        if entry.is_empty() {
            inner.producers.remove(producer);
        }
    }

    /// Everything up to this revision is in.
    pub(crate) fn set_loaded(&self, revision: u64) {
        let serving: Serving = {
            let inner = self.read();
            let served = |(uid, entry): (&ProducerUid, &Entry)| Some((uid.clone(), Arc::clone(entry.served()?)));
            inner.producers.iter().filter_map(served).collect()
        };
        self.serving.send_if_modified(|current| {
            let changed = *current != serving;
            if changed {
                *current = serving;
            }
            changed
        });
        self.loaded.send_replace(revision);
    }

    /// How many subscriptions there are.
    pub(crate) fn subscriptions(&self) -> usize {
        self.read().subscriptions.len()
    }

    /// How many records can't be read or compiled.
    pub(crate) fn unreadable(&self) -> usize {
        self.read().producers.values().map(|entry| entry.unreadable.len() + entry.unusable.len()).sum()
    }

    /// The producers that are not served, as one of their records can't be read or compiled.
    pub(crate) fn unserved(&self) -> Vec<ProducerUid> {
        let inner = self.read();
        let unserved = inner.producers.iter().filter(|(_, entry)| entry.is_barred());
        unserved.map(|(uid, _)| uid.clone()).collect()
    }

    // A poisoned lock means a panic while the maps were whole: each update is complete in itself.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        let inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        self.version.fetch_add(1, Ordering::AcqRel);
        inner
    }
}
