//! The subscription index: the records of the config bucket, ready for matching and look-ups.

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

/// A Producer as the dispatcher serves it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) record: ProducerRecord,
    /// The CloudEvents `source` of events that have none.
    pub(crate) source: HeaderValue,
}

impl Producer {
    pub(crate) fn new(record: ProducerRecord) -> Self {
        let source = attribute_value(&format!("/namespaces/{}/producers/{}", record.namespace, record.name));
        Self { record, source }
    }
}

/// The result of looking up a Subscription's uid.
pub(crate) enum Lookup {
    /// The Subscription is served.
    Serving(Arc<Subscription>, Arc<Producer>),
    /// The Subscription exists, but its Producer can't be served now.
    Waiting,
    /// There is no such Subscription.
    Absent {
        /// The config revision that was loaded at the look-up.
        loaded: u64,
    },
}

/// The Subscriptions that want an event, as of a version of the index.
pub(crate) struct Matches {
    pub(crate) subscriptions: Vec<Arc<Subscription>>,
    pub(crate) version: u64,
}

/// The Producers to read from, by uid.
pub(crate) type Serving = BTreeMap<ProducerUid, Arc<Producer>>;

/// The index. Readers hold its lock for a look-up, never across an await.
pub(crate) struct Index {
    inner: RwLock<Inner>,
    /// The version of `inner`, which each change increases.
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
    /// The schemas by event type. The operator ensures that an event type has only one.
    schemas: HashMap<String, BTreeMap<EventSchemaUid, Schema>>,
    /// The schemas that can't be compiled. While there is one, a Producer that enforces schemas is not served.
    unusable: BTreeSet<EventSchemaUid>,
    /// The records of this Producer that can't be read, each with the reason. While there is one, the Producer is not
    /// served.
    unreadable: BTreeMap<String, String>,
}

impl Entry {
    fn served(&self) -> Option<&Arc<Producer>> {
        self.producer.as_ref().filter(|_| !self.is_barred())
    }

    /// Whether the state of its records keeps the Producer from being served.
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

    /// The Producers to read from.
    pub(crate) fn serving(&self) -> watch::Receiver<Serving> {
        self.serving.subscribe()
    }

    /// The Subscriptions that want this event type; `None` if the Producer is no longer served.
    pub(crate) fn matches(&self, producer: &ProducerUid, event_type: &str) -> Option<Matches> {
        let inner = self.read();
        let entry = inner.producers.get(producer)?;
        entry.served()?;
        Some(Matches { subscriptions: entry.matcher.matches(event_type), version: self.version() })
    }

    /// The version of the index. While it stays the same, a look-up finds the Subscription that was matched.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The Producer, if it is served.
    pub(crate) fn producer(&self, uid: &ProducerUid) -> Option<Arc<Producer>> {
        self.read().producers.get(uid).and_then(Entry::served).cloned()
    }

    /// The schema of an event type. If there is none that can be used, returns the violation that an event of this type
    /// counts as.
    pub(crate) fn schema(&self, producer: &ProducerUid, event_type: &str) -> Result<Arc<EventSchema>, Violation> {
        let inner = self.read();
        let schemas = inner.producers.get(producer).and_then(|entry| entry.schemas.get(event_type));
        let schema = schemas.and_then(|schemas| schemas.values().next()).ok_or_else(Violation::no_schema)?;
        schema.compiled.clone().ok_or_else(Violation::unusable_schema)
    }

    /// Whether the index has any record of this Producer.
    pub(crate) fn knows(&self, producer: &ProducerUid) -> bool {
        self.read().producers.contains_key(producer)
    }

    /// Looks up a Subscription. A caller that needs the version of the result asks for the version first.
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

    /// The Subscription, whatever the state of its Producer.
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
            // The record is a leftover of an earlier Producer with the same name.
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

    /// Whether the index has a schema that was made from this very record. If so, the schema stays.
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
            // The Subscription may live on under another Producer with the same name.
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

    /// Publishes that all records up to this revision are in the index.
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

    /// The number of Subscriptions.
    pub(crate) fn subscriptions(&self) -> usize {
        self.read().subscriptions.len()
    }

    /// The number of records that can't be read or compiled.
    pub(crate) fn unreadable(&self) -> usize {
        self.read().producers.values().map(|entry| entry.unreadable.len() + entry.unusable.len()).sum()
    }

    /// The Producers that are not served because one of their records can't be read or compiled.
    pub(crate) fn unserved(&self) -> Vec<ProducerUid> {
        let inner = self.read();
        let unserved = inner.producers.iter().filter(|(_, entry)| entry.is_barred());
        unserved.map(|(uid, _)| uid.clone()).collect()
    }

    // A poisoned lock means a panic between updates, each of which leaves the maps whole.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        let inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        self.version.fetch_add(1, Ordering::AcqRel);
        inner
    }
}
