//! What the reconcilers share.

use std::sync::Arc;

use hookwright_core::seal::SealingKey;
use hookwright_crds::{EventSchema, Producer, Subscription};
use kube::Client;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Store;

use crate::background::schema_violations::Violations;
use crate::background::stream_incidents::Incidents;
use crate::cache::namespaces::Namespaces;
use crate::cache::own_writes::Latest;
use crate::cache::producers::Facts;
use crate::cache::schema_checks::Judged;
use crate::event_schema::Settled;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::nats::jetstream::JetStream;
use crate::producer::refresh::Refresh;
use crate::reconcile::failures::Failures;
use crate::reconcile::leases::Leases;
use crate::reconcile::triggers::Triggers;
use crate::reconcile::watch::Listed;
use crate::settings::Settings;
use crate::status::budget::StatusBudget;

/// What the reconcilers share.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) js: JetStream,
    pub(crate) key: SealingKey,
    pub(crate) leases: Arc<Leases>,
    pub(crate) health: Arc<Health>,
    pub(crate) producers: Store<Producer>,
    pub(crate) producers_listed: Listed,
    pub(crate) subscriptions: Store<Subscription>,
    pub(crate) subscriptions_listed: Listed,
    pub(crate) namespaces: Namespaces,
    pub(crate) schemas: Store<EventSchema>,
    pub(crate) schemas_listed: Listed,
    pub(crate) latest_producers: Latest<Producer>,
    pub(crate) latest_subscriptions: Latest<Subscription>,
    pub(crate) latest_schemas: Latest<EventSchema>,
    pub(crate) settled: Settled,
    pub(crate) judged: Arc<Judged>,
    pub(crate) violations: Violations,
    pub(crate) incidents: Incidents,
    pub(crate) facts: Facts,
    pub(crate) refresh: Refresh,
    pub(crate) triggers: Triggers,
    pub(crate) failures: Failures,
    pub(crate) status_budget: StatusBudget,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
}
