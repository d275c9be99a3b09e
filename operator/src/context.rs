//! What the reconcilers share.

use std::sync::Arc;

use hookwright_core::seal::SealingKey;
use hookwright_crds::{EventSchema, Producer, Subscription};
use kube::Client;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Store;

use crate::backoff::Failures;
use crate::budget::StatusBudget;
use crate::event_schema::{Judged, Settled};
use crate::facts::Facts;
use crate::health::Health;
use crate::incidents::Incidents;
use crate::jetstream::JetStream;
use crate::latest::Latest;
use crate::leases::Leases;
use crate::metrics::Metrics;
use crate::namespaces::Namespaces;
use crate::producer::refresh::Refresh;
use crate::settings::Settings;
use crate::triggers::Triggers;
use crate::violations::Violations;
use crate::watched::Listed;

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
