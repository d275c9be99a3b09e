//! What the reconcilers and the background work share.
//!
//! `Context` depends on the rooms whose state it holds: `cache`, `reconcile`, `status`, `nats`. None of these knows it.

use std::sync::Arc;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::seal::SealingKeys;
use hookwright_crds::{EventSchema, Producer, Subscription};
use hookwright_runtime::egress::InForce;
use kube::Client;
use kube::runtime::reflector::ObjectRef;

use crate::cache::absent::LetGo;
use crate::cache::failures::Failures;
use crate::cache::fences::Fences;
use crate::cache::health::Health;
use crate::cache::identities::Identities;
use crate::cache::kind::Kind;
use crate::cache::leases::Leases;
use crate::cache::namespaces::Namespaces;
use crate::cache::orphans::Orphans;
use crate::cache::overcommitted::Overcommitted;
use crate::cache::producers::ProducerStates;
use crate::cache::schema_checks::SchemaChecks;
use crate::cache::schema_violations::SchemaViolations;
use crate::cache::services::Services;
use crate::cache::settled_schemas::SettledSchemas;
use crate::cache::stream_heads::StreamHeads;
use crate::cache::stream_incidents::StreamIncidents;
use crate::cache::stream_numbers::StreamNumbers;
use crate::cache::stream_sizes::StreamSizes;
use crate::metrics::Metrics;
use crate::nats::jetstream::JetStream;
use crate::reconcile::deletion::Deletion;
use crate::reconcile::fenced::Records;
use crate::reconcile::triggers::Triggers;
use crate::secrets::SecretReader;
use crate::settings::Settings;
use crate::status::write::StatusWriter;

/// What the reconcilers and the background work share.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    /// The egress rules in force.
    pub(crate) egress: InForce,
    pub(crate) client: Client,
    pub(crate) js: JetStream,
    pub(crate) sealing: SealingKeys,
    pub(crate) producers: Kind<Producer>,
    pub(crate) subscriptions: Kind<Subscription>,
    pub(crate) schemas: Kind<EventSchema>,
    pub(crate) namespaces: Namespaces,
    pub(crate) services: Services,
    pub(crate) leases: Arc<Leases>,
    pub(crate) fences: Fences,
    pub(crate) health: Health,
    pub(crate) producer_states: ProducerStates,
    pub(crate) settled_schemas: SettledSchemas,
    pub(crate) schema_checks: Arc<SchemaChecks>,
    pub(crate) schema_violations: SchemaViolations,
    pub(crate) stream_heads: StreamHeads,
    pub(crate) stream_incidents: StreamIncidents,
    pub(crate) stream_numbers: StreamNumbers,
    pub(crate) stream_sizes: StreamSizes,
    pub(crate) orphans: Orphans,
    pub(crate) overcommitted: Overcommitted,
    pub(crate) identities: Arc<Identities>,
    pub(crate) let_go: LetGo,
    pub(crate) secrets: SecretReader,
    pub(crate) triggers: Triggers,
    pub(crate) failures: Arc<Failures>,
    pub(crate) status: StatusWriter,
    pub(crate) metrics: Metrics,
}

impl Context {
    /// Returns a reference to the Producer that NATS knows by this uid.
    pub(crate) fn producer(&self, uid: &ProducerUid) -> Option<ObjectRef<Producer>> {
        self.producers.find(&self.identities.object(uid.as_str()))
    }

    /// Returns what a deletion needs.
    pub(crate) fn deletion(&self) -> Deletion<'_> {
        Deletion {
            timeout: self.settings.finalizer_timeout,
            recorder: &self.status.recorder,
            let_go: &self.let_go,
            identities: &self.identities,
            js: &self.js,
        }
    }

    /// Returns access to the records of an object.
    pub(crate) fn records<'a, K>(&'a self, object: &'a K) -> Records<'a, K> {
        let Self { js, client, leases, fences, .. } = self;
        Records { object, inputs: (), js, client, leases, fences }
    }
}
