//! The operator's metrics. All have the prefix `hookwright_operator_`.

use std::fmt;
use std::sync::Arc;

use hookwright_crds::{ConditionType, EventSchema, Producer, Subscription};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::cache::failures::Failures;
use crate::cache::kind::Kind;
use crate::cache::leases::Leases;
use crate::cache::secrets::Secrets;
use crate::cache::unreadable::Unreadable;
use crate::kubernetes::limit::Requests;

/// Labels of `reconciles`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reconcile {
    pub(crate) kind: String,
    pub(crate) result: &'static str,
}

/// Labels of `status_writes`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StatusWrite {
    pub(crate) kind: String,
}

/// Labels of `storage_overcommitted`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StorageKind {
    pub(crate) storage: &'static str,
}

/// Counters that move as things happen.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) reconciles: Family<Reconcile, Counter>,
    pub(crate) status_writes: Family<StatusWrite, Counter>,
    pub(crate) unreadable_events: Counter,
    pub(crate) dead_letters_refused: Counter,
    pub(crate) overdue_schedules: Counter,
    pub(crate) events_lost: Counter,
    pub(crate) events_missed: Counter,
    pub(crate) streams_replaced: Counter,
    /// 1 while the installation in the NATS account is another cluster's.
    pub(crate) foreign_installation: Gauge,
    /// 1 while the egress file can't be used, so that former rules stay in force.
    pub(crate) egress_file_unusable: Gauge,
    /// The dispatchers that have gone by other egress rules for long.
    pub(crate) egress_rules_differ: Gauge,
    /// By how much what may be kept in NATS is more than the limit of its account.
    pub(crate) storage_overcommitted: Family<StorageKind, Gauge>,
}

/// Gauges that are computed when the metrics are read.
pub(crate) struct Present {
    producers: Store<Producer>,
    subscriptions: Store<Subscription>,
    unreadable_producers: Arc<Unreadable<Producer>>,
    unreadable_subscriptions: Arc<Unreadable<Subscription>>,
    unreadable_schemas: Arc<Unreadable<EventSchema>>,
    leases: Arc<Leases>,
    secrets: Arc<Secrets>,
    failures: Arc<Failures>,
}

impl Present {
    pub(crate) fn of(
        producers: &Kind<Producer>,
        subscriptions: &Kind<Subscription>,
        schemas: &Kind<EventSchema>,
        leases: Arc<Leases>,
        secrets: Arc<Secrets>,
        failures: Arc<Failures>,
    ) -> Self {
        Self {
            producers: producers.store.clone(),
            subscriptions: subscriptions.store.clone(),
            unreadable_producers: producers.unreadable.clone(),
            unreadable_subscriptions: subscriptions.unreadable.clone(),
            unreadable_schemas: schemas.unreadable.clone(),
            leases,
            secrets,
            failures,
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry, present: Present, requests: &Requests) {
        registry.register("operator_reconciles", "Reconciles, by kind and result", self.reconciles.clone());
        registry.register("operator_status_writes", "Writes of status, by kind", self.status_writes.clone());
        for (name, help, counter) in [
            ("operator_unreadable_events", "Events put aside, as no dispatcher can read them", &self.unreadable_events),
            (
                "operator_dead_letters_refused",
                "Unreadable events that were put aside without being kept, as NATS refuses their dead letters",
                &self.dead_letters_refused,
            ),
            (
                "operator_overdue_schedules",
                "Parked deliveries that NATS did not publish in time",
                &self.overdue_schedules,
            ),
            (
                "operator_events_lost",
                "Events removed from streams before they were received, at most",
                &self.events_lost,
            ),
            (
                "operator_events_missed",
                "Events removed from streams while they waited for a Subscription, at most",
                &self.events_missed,
            ),
            ("operator_streams_replaced", "Streams found to be others of the same name", &self.streams_replaced),
            ("operator_api_requests", "Requests to the Kubernetes API server", &requests.sent),
            (
                "operator_api_requests_delayed",
                "Requests to the Kubernetes API server that have waited for their turn",
                &requests.delayed,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        let help = "1 while the installation in the NATS account is another cluster's, so that nothing is written";
        registry.register("operator_foreign_installation", help, self.foreign_installation.clone());
        let help = "1 while the egress file can't be used, so that the former rules stay in force";
        registry.register("operator_egress_file_unusable", help, self.egress_file_unusable.clone());
        let help = "Live dispatchers that have gone by other egress rules than the operator for over three minutes";
        registry.register("operator_egress_rules_differ", help, self.egress_rules_differ.clone());
        let help = "Bytes that may be kept in NATS beyond the limit of its account, by storage";
        let (name, unit) = ("operator_storage_overcommitted", Unit::Bytes);
        registry.register_with_unit(name, help, unit, self.storage_overcommitted.clone());
        registry.register_collector(Box::new(present));
    }
}

impl Present {
    fn encode_failing(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "Objects on which work fails that no condition shows, by kind and reason: Events say what";
        let mut family = encoder.encode_descriptor("operator_failing_objects", help, None, MetricType::Gauge)?;
        for ((kind, reason), count) in self.failures.counts() {
            let labels = [("kind", kind.as_str()), ("reason", reason.as_str())];
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Present")
    }
}

impl Collector for Present {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let live = i64::try_from(self.leases.live()).unwrap_or(i64::MAX);
        let gauge = encoder.encode_descriptor("operator_dispatchers", "Live dispatchers", None, MetricType::Gauge)?;
        ConstGauge::new(live).encode(gauge)?;
        let help = "Age of what is known of the Secret that was read the longest ago";
        let name = "operator_secrets_oldest_read";
        let gauge = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(self.secrets.oldest().as_secs_f64()).encode(gauge)?;
        let help = "Objects that the operator can't read and leaves as they were, by kind";
        let mut family = encoder.encode_descriptor("operator_unreadable_objects", help, None, MetricType::Gauge)?;
        for (kind, count) in [
            ("Producer", self.unreadable_producers.count()),
            ("Subscription", self.unreadable_subscriptions.count()),
            ("EventSchema", self.unreadable_schemas.count()),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(family.encode_family(&[("kind", kind)])?)?;
        }
        self.encode_failing(&mut encoder)?;
        let status = |conditions: Option<&Vec<Condition>>| -> &'static str {
            match conditions
                .into_iter()
                .flatten()
                .find(|one| one.type_ == ConditionType::Ready.as_str())
                .map(|ready| &*ready.status)
            {
                Some("True") => "True",
                Some("False") => "False",
                _ => "Unknown",
            }
        };
        let producers = self.producers.state();
        let producers = producers.iter().map(|p| status(p.status.as_ref().and_then(|s| s.conditions.as_ref())));
        by_ready(&mut encoder, "operator_producers", "Producers, by condition Ready", producers)?;
        let subscriptions = self.subscriptions.state();
        let subscriptions = subscriptions.iter().map(|s| status(s.status.as_ref().and_then(|s| s.conditions.as_ref())));
        by_ready(&mut encoder, "operator_subscriptions", "Subscriptions, by condition Ready", subscriptions)
    }
}

fn by_ready(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    objects: impl Iterator<Item = &'static str> + Clone,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for ready in ["True", "False", "Unknown"] {
        let count = i64::try_from(objects.clone().filter(|status| *status == ready).count()).unwrap_or(i64::MAX);
        ConstGauge::new(count).encode(family.encode_family(&[("ready", ready)])?)?;
    }
    Ok(())
}
