//! Loads the records of the config bucket into the index.

mod egress;

use std::sync::Arc;

use hookwright_core::destination::{Destination, HeaderValue};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey, FORMER_PREFIX, INSTALLATION_KEY, parse_deleted_key};
use hookwright_core::payload::Renderer;
use hookwright_core::record::{EventSchemaRecord, ProducerRecord, SubscriptionRecord};
use hookwright_core::seal::{Sealed, SealingKeys, Secret};
use hookwright_core::select::filter::Filters;
use hookwright_runtime::egress::InForce;
use hookwright_runtime::logging::chain;
use hookwright_runtime::mirror::{Change, Mirror};
use hookwright_runtime::nats::Nats;
use http::HeaderName;
use tokio::sync::watch;
use tracing::{debug, error, warn};

use crate::config::features;
use crate::config::index::Index;
use crate::config::schema::Schema;
use crate::config::subscription::Subscription;
use crate::health::Health;
use crate::http::endpoint::{Endpoint, Unusable};
use crate::http::request::is_own;
use crate::limits::outage::Tenants;
use crate::panics;
use crate::position::cells::Cells;

/// A key of the config bucket.
enum Key {
    Record(ConfigKey),
    /// The key whose value says that a Subscription was deleted.
    Deleted(SubscriptionUid),
    /// A key that concerns operators only.
    Operators,
}

impl Key {
    fn parse(key: &str) -> Option<Self> {
        if key == INSTALLATION_KEY || key.starts_with(FORMER_PREFIX) {
            return Some(Self::Operators);
        }
        parse_deleted_key(key).map(Self::Deleted).or_else(|| ConfigKey::parse(key).map(Self::Record))
    }
}

/// Keeps the index equal to the bucket.
pub(crate) struct ConfigLoader {
    pub(crate) index: Arc<Index>,
    pub(crate) health: Arc<Health>,
    pub(crate) positions: Arc<Cells>,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) sealing: SealingKeys,
    /// The egress rules in force.
    pub(crate) egress: InForce,
    /// The digest of the egress rules by which all endpoints were judged.
    pub(crate) judged: watch::Sender<String>,
}

impl ConfigLoader {
    /// Runs for as long as the process.
    pub(crate) async fn run(self, nats: Nats) {
        let mirror = Mirror::new(nats, CONFIG_BUCKET, ">").run(|change| self.apply(change));
        // In one task, so that no endpoint is judged by former rules after all others were judged by new ones.
        tokio::select! {
            never = mirror => match never {},
            never = self.follow_egress() => match never {},
        }
    }

    fn apply(&self, change: Change) {
        match change {
            Change::Loaded(revision) => self.index.set_loaded(revision),
            Change::Behind => self.index.loaded.set_behind(),
            Change::Delete { key } | Change::Vanished { key } => match Key::parse(&key) {
                Some(Key::Deleted(uid)) => self.index.set_deleted(uid, false),
                Some(Key::Record(key)) => {
                    debug!(%key, "config record removed");
                    self.index.remove(&key);
                }
                Some(Key::Operators) => {}
                None => warn!(key, "ignoring the removal of an unknown key from the config bucket"),
            },
            Change::Put { key, value, revision } => match Key::parse(&key) {
                Some(Key::Deleted(uid)) => self.index.set_deleted(uid, true),
                Some(Key::Record(key)) => {
                    let put = panics::caught(|| self.put(&key, &value, revision));
                    if let Err(reason) = put.unwrap_or_else(|panic| Err(format!("reading it panicked: {panic}"))) {
                        error!(%key, reason, "can't read a config record; its Producer is not served");
                        self.index.put_unreadable(&key, reason);
                    }
                }
                Some(Key::Operators) => {}
                None => warn!(key, "ignoring an unknown key in the config bucket"),
            },
        }
    }

    fn put(&self, key: &ConfigKey, value: &[u8], revision: u64) -> Result<(), String> {
        match key {
            ConfigKey::Producer(uid) => {
                let record: ProducerRecord = features::record(value)?;
                if record.uid != *uid {
                    return Err("the record belongs to another object".to_owned());
                }
                self.index.put_producer(record);
            }
            ConfigKey::Subscription(producer, uid) => {
                let record: SubscriptionRecord<Sealed> = features::record(value)?;
                if record.identity.uid != *uid || record.producer != *producer {
                    return Err("the record belongs to another object".to_owned());
                }
                panics::provoked_by_record_of(&record.identity.name);
                self.index.put_subscription(self.subscription(record, revision)?);
            }
            // The schema is unchanged: after each reconnect all records come again.
            ConfigKey::Schema(producer, uid) if self.index.keep_schema(producer, uid, value) => {}
            ConfigKey::Schema(producer, uid) => {
                let record: EventSchemaRecord = features::record(value)?;
                if record.uid != *uid || record.producer != *producer {
                    return Err("the record belongs to another object".to_owned());
                }
                let (schema, error) = tokio::task::block_in_place(|| Schema::compile(&record, value));
                if let Some(error) = error {
                    error!(
                        %key,
                        error = chain(&error),
                        "can't compile an EventSchema; its Producer is not served if it enforces schemas"
                    );
                }
                self.index.put_schema(producer, uid, schema);
            }
        }
        debug!(%key, revision, "config record loaded");
        Ok(())
    }

    fn subscription(&self, record: SubscriptionRecord<Sealed>, revision: u64) -> Result<Arc<Subscription>, String> {
        let record = record.open(&self.sealing).map_err(|error| chain(&error))?;
        let SubscriptionRecord { identity, producer, select, destination, payload, payload_policy, .. } = record;
        let (delivery, flow) = (record.delivery, record.flow);
        let filters = Filters::compile(&select.filters).map_err(|error| error.to_string())?;
        let name = format!("{}/{}", identity.namespace, identity.name);
        let endpoint = match &destination {
            Some(destination) => Endpoint::prepare(destination, self.rules().egress.of(&identity.namespace)),
            None => Err(Unusable::Refused),
        };
        let headers = destination.as_ref().map(attribute_headers).unwrap_or_default();
        let renderer = Renderer::new(&payload, payload_policy, headers)
            .map_err(|invalid| format!("the payload can't be prepared: {invalid}"))?;
        let subscription = Subscription {
            name,
            renderer: Arc::new(renderer),
            endpoint,
            revision,
            health: self.health.cell(&identity.uid),
            position: self.positions.cell(&identity.uid),
            tenant: self.tenants.of(&identity.namespace),
            flow,
            uid: identity.uid,
            producer,
            generation: identity.generation,
            event_types: select.event_types,
            versions: select.versions,
            filters: Arc::new(filters),
            policy: delivery,
        };
        egress::tell(&subscription);
        Ok(Arc::new(subscription))
    }
}

/// The headers that take their values from attributes.
fn attribute_headers(destination: &Destination<Secret>) -> Vec<(HeaderName, String)> {
    let headers = destination.headers.iter().filter_map(|header| {
        let HeaderValue::Attribute(attribute) = &header.value else { return None };
        Some((HeaderName::from_bytes(header.name.as_bytes()).ok()?, attribute.clone()))
    });
    headers.filter(|(name, _)| !is_own(name)).collect()
}

#[cfg(test)]
mod tests;
