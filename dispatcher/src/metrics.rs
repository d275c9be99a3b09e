//! The dispatcher's Prometheus metrics, all with the prefix `hookwright_dispatcher_`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::outcome::OutcomeKind;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Label = [(&'static str, &'static str); 1];

fn outcome(kind: OutcomeKind) -> Label {
    [("outcome", kind.name())]
}

/// The dispatcher's counters, gauges and histograms.
pub(crate) struct Metrics {
    pub(crate) events: Counter,
    pub(crate) dropped: Counter,
    pub(crate) deprecated_events: Counter,
    pub(crate) dead_letter_references: Counter,
    pub(crate) blocked_attempts: Counter,
    pub(crate) proxy_failures: Counter,
    /// 1 while the egress file can't be used, so that former rules stay in force.
    pub(crate) egress_file_unusable: Gauge,
    pub(crate) held_events: Gauge,
    pub(crate) in_flight: Gauge,
    pub(crate) subscriptions: Gauge,
    pub(crate) unreadable: Gauge,
    pub(crate) parked_bytes: Gauge,
    /// The offset in seconds.
    pub(crate) clock_offset: Gauge<f64, AtomicU64>,
    pub(crate) config_revision: Gauge,
    pub(crate) live: Gauge,
    pub(crate) outage: Gauge,
    attempts: Family<Label, Counter>,
    /// The counter of `attempts` for successful deliveries, which are most of them.
    delivered: Counter,
    parked: Family<Label, Counter>,
    dead_letters: Family<Label, Counter>,
    dead_letters_refused: Family<Label, Counter>,
    schema_violations: Family<Label, Counter>,
    filtered_out: Family<Label, Counter>,
    forbidden: Family<Label, Counter>,
    behind_reads: Family<Label, Counter>,
    attempt_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register() -> (Arc<Self>, Registry) {
        let attempts = Family::<Label, Counter>::default();
        let delivered = attempts.get_or_create(&outcome(OutcomeKind::Delivered)).clone();
        let metrics = Self {
            events: Counter::default(),
            dropped: Counter::default(),
            deprecated_events: Counter::default(),
            dead_letter_references: Counter::default(),
            blocked_attempts: Counter::default(),
            proxy_failures: Counter::default(),
            egress_file_unusable: Gauge::default(),
            schema_violations: Family::default(),
            filtered_out: Family::default(),
            forbidden: Family::default(),
            behind_reads: Family::default(),
            held_events: Gauge::default(),
            in_flight: Gauge::default(),
            subscriptions: Gauge::default(),
            unreadable: Gauge::default(),
            parked_bytes: Gauge::default(),
            clock_offset: Gauge::default(),
            config_revision: Gauge::default(),
            live: Gauge::default(),
            outage: Gauge::default(),
            delivered,
            attempts,
            parked: Family::default(),
            dead_letters: Family::default(),
            dead_letters_refused: Family::default(),
            attempt_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
        };
        let registry = metrics.registry();
        (Arc::new(metrics), registry)
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("hookwright_dispatcher");
        registry.register("events", "Events read and matched", self.events.clone());
        registry.register("attempts", "Attempts, by outcome", self.attempts.clone());
        registry.register(
            "blocked_attempts",
            "Attempts at endpoints whose name has an address that the egress rules forbid",
            self.blocked_attempts.clone(),
        );
        registry.register(
            "proxy_failures",
            "Attempts for which the egress proxy made no connection",
            self.proxy_failures.clone(),
        );
        let help = "1 while the egress file can't be used, so that the former rules stay in force";
        registry.register("egress_file_unusable", help, self.egress_file_unusable.clone());
        registry.register("attempt_seconds", "How long attempts took", self.attempt_seconds.clone());
        registry.register("parked", "Deliveries parked, by cause", self.parked.clone());
        registry.register("dead_letters", "Deliveries and events given up, by reason", self.dead_letters.clone());
        registry.register(
            "dead_letters_refused",
            "Dead letters that NATS refused for good, and due messages that can't be read and are too large, by reason",
            self.dead_letters_refused.clone(),
        );
        registry.register(
            "dead_letter_references",
            "Dead letters kept as references, because their namespace has used up its bytes",
            self.dead_letter_references.clone(),
        );
        registry.register("dropped", "Deliveries dropped because their Subscription was deleted", self.dropped.clone());
        registry.register("filtered_out", "Events that filters kept out, by cause", self.filtered_out.clone());
        registry.register(
            "forbidden",
            "Deliveries dropped because a policy of the Producer forbids them, by cause",
            self.forbidden.clone(),
        );
        let help = "Reads for Subscriptions that are behind, by where the events came from";
        registry.register("behind_reads", help, self.behind_reads.clone());
        let (violations, deprecated) = (self.schema_violations.clone(), self.deprecated_events.clone());
        registry.register("schema_violations", "Events that violated their schema, by validation", violations);
        registry.register("deprecated_events", "Events of a deprecated schema version", deprecated);
        registry.register("held_events", "Events held in memory", self.held_events.clone());
        registry.register("in_flight", "Attempts under way", self.in_flight.clone());
        registry.register("subscriptions", "Subscriptions loaded", self.subscriptions.clone());
        registry.register(
            "unreadable_records",
            "Config records that can't be read or compiled",
            self.unreadable.clone(),
        );
        registry.register("parked_bytes", "Bytes of all parked deliveries", self.parked_bytes.clone());
        let help = "How far the NATS server's clock is ahead of this machine's";
        registry.register("clock_offset_seconds", help, self.clock_offset.clone());
        registry.register("config_revision", "The config revision that is loaded", self.config_revision.clone());
        registry.register(
            "outage",
            "1 while attempts in half of the namespaces get no answer, so that this side may be at fault",
            self.outage.clone(),
        );
        registry.register("live", "1 while the liveness lease holds", self.live.clone());
        registry
    }

    pub(crate) fn attempt(&self, kind: OutcomeKind, took: Duration) {
        match kind {
            OutcomeKind::Delivered => self.delivered.inc(),
            other => self.attempts.get_or_create(&outcome(other)).inc(),
        };
        self.attempt_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn parked(&self, cause: &'static str) {
        self.parked.get_or_create(&[("cause", cause)]).inc();
    }

    pub(crate) fn schema_violation(&self, validation: &'static str) {
        self.schema_violations.get_or_create(&[("validation", validation)]).inc();
    }

    /// Counts an event that a Subscription's filters kept out, because the evaluation said so or because it failed.
    pub(crate) fn filtered_out(&self, failed: bool, events: u64) {
        self.filtered_out.get_or_create(&[("cause", if failed { "Error" } else { "Filter" })]).inc_by(events);
    }

    /// Counts a delivery that a policy of the Producer forbids, because its filters say so or because they failed.
    pub(crate) fn forbidden(&self, failed: bool) {
        self.forbidden.get_or_create(&[("cause", if failed { "Error" } else { "Filter" })]).inc();
    }

    /// Counts a read for a Subscription that is behind, from the stream or from what was read before.
    pub(crate) fn behind_read(&self, from: &'static str) {
        self.behind_reads.get_or_create(&[("from", from)]).inc();
    }

    pub(crate) fn dead_letter_refused(&self, reason: &'static str) {
        self.dead_letters_refused.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn dead_letter(&self, reason: DeadLetterReason) {
        self.dead_letters.get_or_create(&[("reason", reason.name())]).inc();
    }
}
