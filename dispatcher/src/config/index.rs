//! The subscription index: the records of the config bucket, ready for matching and look-ups.

mod entry;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hookwright_core::expression::{Attribute, Variables};
use hookwright_core::nats::ids::{EventSchemaUid, ProducerUid, SubscriptionUid};
use hookwright_core::nats::names::ConfigKey;
use hookwright_core::record::ProducerRecord;
use hookwright_core::record::lease::BucketRevision;
use hookwright_core::schema::{EventSchema, Violation};
use hookwright_core::select::index::Few;
use tokio::sync::watch;

use crate::config::schema::Schema;
use crate::config::subscription::Subscription;
use crate::loaded::Loaded;
pub(crate) use entry::Producer;
use entry::{Entry, SharedMatcher, insert, locked};

/// The result of looking up a Subscription's uid.
pub(crate) enum Lookup {
    /// The Subscription is served.
    Serving(Arc<Subscription>, Arc<Producer>),
    /// The Subscription exists, but its Producer can't be served now.
    Barred(Arc<Subscription>),
    /// The Subscription was deleted.
    Deleted,
    /// There is no record of the Subscription, and none that says that it was deleted.
    Absent {
        /// The config revision that was loaded at the look-up.
        loaded: Option<u64>,
    },
}

/// The Subscriptions that may want an event, as of a version of the index.
pub(crate) struct Matches {
    pub(crate) subscriptions: Vec<Arc<Subscription>>,
    pub(crate) version: u64,
}

/// The Producers to read from, by uid.
pub(crate) type Serving = BTreeMap<ProducerUid, Arc<Producer>>;

/// The index. Readers hold its lock for a look-up, never across an await.
///
/// An event may match ten thousand Subscriptions, so each Producer's matcher has a lock of its own: neither look-ups nor
/// the records of other Producers wait for a match. Nobody takes one of the locks while holding the other.
pub(crate) struct Index {
    inner: RwLock<Inner>,
    /// The version of the index. A change increases it after the last part of it has been made, so that a reader that finds
    /// an old part finds an old version, too.
    version: AtomicU64,
    pub(crate) loaded: Loaded,
    serving: watch::Sender<Serving>,
}

#[derive(Default)]
struct Inner {
    producers: HashMap<ProducerUid, Entry>,
    subscriptions: HashMap<SubscriptionUid, Arc<Subscription>>,
    deleted: HashSet<SubscriptionUid>,
}

impl Index {
    pub(crate) fn new() -> Arc<Self> {
        let (loaded, serving) = (Loaded::default(), watch::Sender::new(Serving::new()));
        Arc::new(Self { inner: RwLock::default(), version: AtomicU64::new(0), loaded, serving })
    }

    /// The Producers to read from.
    pub(crate) fn serving(&self) -> watch::Receiver<Serving> {
        self.serving.subscribe()
    }

    /// The Subscriptions that may want an event, by its type and its attributes: their filters are not evaluated yet.
    /// `None` if the Producer is no longer served.
    pub(crate) fn matches(&self, producer: &ProducerUid, variables: &Variables<'_>) -> Option<Matches> {
        let version = self.version();
        let matcher = {
            let inner = self.read();
            let entry = inner.producers.get(producer)?;
            entry.served()?;
            Arc::clone(&entry.matcher)
        };
        let mut major = None;
        let subscriptions = loop {
            let matcher = matcher.read().unwrap_or_else(PoisonError::into_inner);
            if matcher.is_versioned() && major.is_none() {
                // The schemas are behind the other lock.
                drop(matcher);
                major = Some(self.major(producer, variables));
            } else {
                break matcher.matches(&variables.event().event_type, major.flatten(), variables);
            }
        };
        Some(Matches { subscriptions, version })
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

    /// The major version of an event, by the EventSchema of its type.
    pub(crate) fn major(&self, producer: &ProducerUid, variables: &Variables<'_>) -> Option<u32> {
        let schema = self.schema(producer, &variables.event().event_type).ok()?;
        let text = |name| variables.attribute(name).map(Attribute::into_text);
        schema.major(text("schemaversion").as_deref(), text("dataschema").as_deref())
    }

    /// Whether the index has any record of this Producer.
    pub(crate) fn knows(&self, producer: &ProducerUid) -> bool {
        self.read().producers.contains_key(producer)
    }

    /// Looks up a Subscription. A caller that needs the version of the result asks for the version first.
    pub(crate) fn lookup(&self, subscription: &SubscriptionUid) -> Lookup {
        let inner = self.read();
        let Some(found) = inner.subscriptions.get(subscription) else {
            if inner.deleted.contains(subscription) {
                return Lookup::Deleted;
            }
            return Lookup::Absent { loaded: self.loaded.number() };
        };
        match inner.producers.get(&found.producer).and_then(Entry::served) {
            Some(producer) => Lookup::Serving(Arc::clone(found), Arc::clone(producer)),
            None => Lookup::Barred(Arc::clone(found)),
        }
    }

    /// Whether a look-up still finds this very Subscription, which was found in this version of the index. If so, the
    /// version becomes the present one.
    pub(crate) fn still_finds(&self, subscription: &Arc<Subscription>, version: &mut u64) -> bool {
        let present = self.version();
        if present != *version {
            match self.lookup(&subscription.uid) {
                Lookup::Serving(found, _) if Arc::ptr_eq(&found, subscription) => *version = present,
                _ => return false,
            }
        }
        true
    }

    /// The Subscription, whatever the state of its Producer.
    pub(crate) fn subscription(&self, uid: &SubscriptionUid) -> Option<Arc<Subscription>> {
        self.read().subscriptions.get(uid).cloned()
    }

    pub(crate) fn put_producer(&self, record: ProducerRecord) {
        self.change(|inner| {
            let key = ConfigKey::Producer(record.uid.clone()).to_string();
            let entry = inner.producers.entry(record.uid.clone()).or_default();
            entry.unreadable.remove(&key);
            entry.producer = Some(Arc::new(Producer::new(record)));
        });
    }

    pub(crate) fn put_subscription(&self, subscription: Arc<Subscription>) {
        let Subscription { uid, producer, revision, .. } = &*subscription;
        let Some((left, joined)) = self.write(|inner| {
            let former = inner.subscriptions.get(uid).filter(|former| former.producer != *producer);
            if former.is_some_and(|former| former.revision > *revision) {
                // The record is a leftover of an earlier Producer with the same name.
                return None;
            }
            let former = former.map(|former| former.producer.clone());
            inner.subscriptions.insert(uid.clone(), Arc::clone(&subscription));
            let left = former.and_then(|former| inner.producers.get_mut(&former)).map(|entry| entry.lose(uid));
            let entry = inner.producers.entry(producer.clone()).or_default();
            entry.unreadable.remove(&ConfigKey::Subscription(producer.clone(), uid.clone()).to_string());
            entry.members.insert(uid.clone());
            Some((left, Arc::clone(&entry.matcher)))
        }) else {
            return;
        };
        left.iter().for_each(|matcher| locked(matcher).remove(uid));
        insert(&joined, &subscription);
        self.changed();
    }

    /// Puts a Subscription in the place of the one that was made from the same record.
    pub(crate) fn replace_subscription(&self, subscription: &Arc<Subscription>) {
        let Some(matcher) = self.write(|inner| {
            *inner.subscriptions.get_mut(&subscription.uid)? = Arc::clone(subscription);
            inner.producers.get(&subscription.producer).map(|entry| Arc::clone(&entry.matcher))
        }) else {
            return;
        };
        insert(&matcher, subscription);
        self.changed();
    }

    /// Whether the index has a schema that was made from this very record. If so, the schema stays.
    pub(crate) fn keep_schema(&self, producer: &ProducerUid, uid: &EventSchemaUid, record: &[u8]) -> bool {
        self.change(|inner| {
            let Some(entry) = inner.producers.get_mut(producer) else { return false };
            let mut known = entry.schemas.values().filter_map(|schemas| schemas.get(uid));
            let kept = known.any(|schema| schema.is_of(record));
            if kept {
                entry.unreadable.remove(&ConfigKey::Schema(producer.clone(), uid.clone()).to_string());
            }
            kept
        })
    }

    pub(crate) fn put_schema(&self, producer: &ProducerUid, uid: &EventSchemaUid, schema: Schema) {
        self.change(|inner| {
            let key = ConfigKey::Schema(producer.clone(), uid.clone()).to_string();
            let entry = inner.producers.entry(producer.clone()).or_default();
            entry.unreadable.remove(&key);
            entry.remove_schema(uid);
            if schema.compiled.is_none() {
                entry.unusable.insert(uid.clone());
            }
            entry.schemas.entry(schema.event_type.clone()).or_default().insert(uid.clone(), schema);
        });
    }

    pub(crate) fn put_unreadable(&self, key: &ConfigKey, reason: String) {
        self.change(|inner| {
            inner.producers.entry(key.producer().clone()).or_default().unreadable.insert(key.to_string(), reason);
        });
    }

    pub(crate) fn remove(&self, key: &ConfigKey) {
        let producer = key.producer();
        let left = self.write(|inner| {
            if let ConfigKey::Subscription(_, subscription) = key {
                // The Subscription may live on under another Producer with the same name.
                if inner.subscriptions.get(subscription).is_some_and(|found| found.producer == *producer) {
                    inner.subscriptions.remove(subscription);
                }
            }
            let entry = inner.producers.get_mut(producer)?;
            entry.unreadable.remove(&key.to_string());
            let left = match key {
                ConfigKey::Producer(_) => {
                    entry.producer = None;
                    None
                }
                ConfigKey::Subscription(_, subscription) => Some((entry.lose(subscription), subscription)),
                ConfigKey::Schema(_, schema) => {
                    entry.remove_schema(schema);
                    None
                }
            };
            if entry.is_empty() {
                inner.producers.remove(producer);
            }
            left
        });
        left.iter().for_each(|(matcher, subscription)| locked(matcher).remove(subscription));
        self.changed();
    }

    /// Remembers that a Subscription was deleted, or forgets it. A record of the Subscription counts more.
    pub(crate) fn set_deleted(&self, subscription: SubscriptionUid, deleted: bool) {
        self.change(|inner| {
            if deleted {
                inner.deleted.insert(subscription);
            } else {
                inner.deleted.remove(&subscription);
            }
        });
    }

    /// Publishes that all records up to this revision are in the index.
    pub(crate) fn set_loaded(&self, revision: BucketRevision) {
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
        self.loaded.set(revision);
    }

    /// The Subscriptions that select events which lack what one of their filters wants, and how many since they were
    /// told last. Their other filters were not evaluated for these events.
    pub(crate) fn passed_over(&self, few: Few) -> Vec<(Arc<Subscription>, u64)> {
        let matchers: Vec<_> = self.read().producers.values().map(|entry| Arc::clone(&entry.matcher)).collect();
        let of = |matcher: &SharedMatcher| {
            let matcher = matcher.read().unwrap_or_else(PoisonError::into_inner);
            matcher.passed_over(few).collect::<Vec<_>>()
        };
        matchers.iter().flat_map(of).collect()
    }

    /// The uids of all Subscriptions.
    pub(crate) fn uids(&self) -> Vec<SubscriptionUid> {
        self.read().subscriptions.keys().cloned().collect()
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

    /// Changes the index, except the matchers.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let result = self.write(change);
        self.changed();
        result
    }

    /// Makes a part of a change. After the last part comes [`Self::changed`].
    fn write<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}
