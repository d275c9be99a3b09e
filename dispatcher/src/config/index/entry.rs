//! A Producer, and what the index has of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use hookwright_core::event::attribute_value;
use hookwright_core::nats::ids::{EventSchemaUid, SubscriptionUid};
use hookwright_core::record::{ProducerRecord, Validation};
use hookwright_core::select::index::Matcher;
use http::HeaderValue;

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

pub(super) type SharedMatcher = Arc<RwLock<Matcher<SubscriptionUid, Arc<Subscription>>>>;

/// What the index has of a Producer.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) producer: Option<Arc<Producer>>,
    pub(super) matcher: SharedMatcher,
    /// The Subscriptions that the matcher has, or is about to have.
    pub(super) members: HashSet<SubscriptionUid>,
    /// The schemas by event type. The operator ensures that an event type has only one.
    pub(super) schemas: HashMap<String, BTreeMap<EventSchemaUid, Schema>>,
    /// The schemas that can't be compiled. While there is one, a Producer that enforces schemas is not served.
    pub(super) unusable: BTreeSet<EventSchemaUid>,
    /// The records of this Producer that can't be read, each with the reason. While there is one, the Producer is not
    /// served.
    pub(super) unreadable: BTreeMap<String, String>,
}

impl Entry {
    pub(super) fn served(&self) -> Option<&Arc<Producer>> {
        self.producer.as_ref().filter(|_| !self.is_barred())
    }

    /// Whether the state of its records keeps the Producer from being served.
    pub(super) fn is_barred(&self) -> bool {
        let enforces = |producer: &Arc<Producer>| producer.record.validation == Validation::Enforce;
        !self.unreadable.is_empty() || !self.unusable.is_empty() && self.producer.as_ref().is_some_and(enforces)
    }

    pub(super) fn remove_schema(&mut self, uid: &EventSchemaUid) {
        self.unusable.remove(uid);
        self.schemas.retain(|_, schemas| {
            schemas.remove(uid);
            !schemas.is_empty()
        });
    }

    /// Loses a member. The caller removes it from the matcher that this returns.
    pub(super) fn lose(&mut self, subscription: &SubscriptionUid) -> SharedMatcher {
        self.members.remove(subscription);
        Arc::clone(&self.matcher)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.producer.is_none() && self.members.is_empty() && self.schemas.is_empty() && self.unreadable.is_empty()
    }
}

/// Adds a Subscription to a matcher, in place of the one of the same uid.
pub(super) fn insert(matcher: &SharedMatcher, subscription: &Arc<Subscription>) {
    let Subscription { uid, event_types, versions, filters, renderer, .. } = &**subscription;
    // What the Producer forbids is counted apart. Were such events passed over by the Subscription's own filters, the
    // counts would tell what is in them.
    let needs = filters.needs().filter(|_| !renderer.has_filters());
    let needs = needs.map(|(_, name, value)| (name, value));
    locked(matcher).insert(uid, event_types, versions, needs, subscription);
}

pub(super) fn locked(matcher: &SharedMatcher) -> RwLockWriteGuard<'_, Matcher<SubscriptionUid, Arc<Subscription>>> {
    matcher.write().unwrap_or_else(PoisonError::into_inner)
}
