//! The dispatcher's settings file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hookwright_core::delivery::quota::ParkQuota;
use hookwright_core::destination::egress::EgressPolicy;
use hookwright_runtime::admin::AdminSettings;
use hookwright_runtime::logging::LogSettings;
use hookwright_runtime::nats::NatsSettings;
use hookwright_runtime::sealing::SealingSettings;
use hookwright_runtime::settings::duration;
use serde::Deserialize;

/// Delivers events from NATS JetStream as signed webhooks.
#[derive(Debug, clap::Parser)]
#[command(name = "hookwright-dispatcher", version)]
pub(crate) struct Arguments {
    /// The settings file.
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// Check the settings, then exit.
    #[arg(long)]
    pub(crate) check_config: bool,
}

/// The settings. Each has a default but the first three.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) nats: NatsSettings,
    pub(crate) http: AdminSettings,
    pub(crate) sealing: SealingSettings,
    #[serde(default)]
    pub(crate) log: LogSettings,
    /// Which endpoints may be dialled.
    #[serde(default)]
    pub(crate) egress: EgressPolicy,
    #[serde(default)]
    pub(crate) dns: DnsSettings,
    /// Attempts under way at the same time, over all subscriptions.
    #[serde(default = "defaults::max_in_flight")]
    pub(crate) max_in_flight: usize,
    /// Events held in memory at the same time.
    #[serde(default = "defaults::max_held_events")]
    pub(crate) max_held_events: usize,
    /// Bytes of events held in memory at the same time.
    #[serde(default = "defaults::max_held_bytes")]
    pub(crate) max_held_bytes: usize,
    /// Deliveries that wait for their turn, over all subscriptions; while there are about as many, each Producer reads one
    /// event at a time.
    #[serde(default = "defaults::max_waiting")]
    pub(crate) max_waiting: usize,
    /// Bytes of deliveries that may be parked, over all dispatchers; at 80% of it no new events are taken in.
    #[serde(default = "defaults::parked_budget_bytes")]
    pub(crate) parked_budget_bytes: u64,
    /// How much of one subscription may be parked, over all dispatchers; what is beyond is given up.
    #[serde(default)]
    pub(crate) park_quota: ParkQuota,
    #[serde(default)]
    pub(crate) lane: LaneSettings,
    /// Added to the system's clock, for tests of what a wrong clock does.
    #[serde(default, with = "duration")]
    pub(crate) clock_shift: Duration,
    /// How long a stop may take: what is in flight is finished or parked within it.
    #[serde(default = "defaults::shutdown_grace", with = "duration")]
    pub(crate) shutdown_grace: Duration,
}

/// How host names are resolved.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct DnsSettings {
    /// The name servers to ask; none: those of the system, and its hosts file.
    pub(crate) nameservers: Vec<SocketAddr>,
}

/// What one subscription may take of a dispatcher.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct LaneSettings {
    /// Attempts under way at the same time; never more than a quarter of `maxInFlight`.
    pub(crate) in_flight: usize,
    /// Deliveries that wait for one of these for up to 5 s at any pace; what is beyond is parked, unless the endpoint is
    /// quick enough for all that wait.
    pub(crate) waiting: usize,
}

impl Default for LaneSettings {
    fn default() -> Self {
        Self { in_flight: 64, waiting: 64 }
    }
}

mod defaults {
    use std::time::Duration;

    pub(super) fn max_in_flight() -> usize {
        512
    }
    pub(super) fn max_held_events() -> usize {
        4096
    }
    pub(super) fn max_waiting() -> usize {
        4096
    }
    pub(super) fn max_held_bytes() -> usize {
        256 << 20
    }
    pub(super) fn parked_budget_bytes() -> u64 {
        8 << 30
    }
    pub(super) fn shutdown_grace() -> Duration {
        Duration::from_secs(35)
    }
}

impl Settings {
    /// What the types can't say.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=100_000).contains(&self.max_in_flight), "maxInFlight is 1 to 100000");
        anyhow::ensure!((1..=1_000_000).contains(&self.max_held_events), "maxHeldEvents is 1 to 1000000");
        anyhow::ensure!((1..=1_000_000).contains(&self.max_waiting), "maxWaiting is 1 to 1000000");
        anyhow::ensure!((16 << 20..=1 << 36).contains(&self.max_held_bytes), "maxHeldBytes is 16 MiB to 64 GiB");
        anyhow::ensure!(self.park_quota.deliveries > 0, "parkQuota.deliveries is at least 1");
        anyhow::ensure!(self.park_quota.bytes > 0, "parkQuota.bytes is at least 1");
        anyhow::ensure!(self.lane.in_flight > 0, "lane.inFlight is at least 1");
        anyhow::ensure!(self.lane.waiting <= 1_000_000, "lane.waiting is at most 1000000");
        anyhow::ensure!(!self.egress.allowed_ports.is_empty(), "egress.allowedPorts has at least one port");
        Ok(())
    }

    /// Attempts of one subscription under way at the same time.
    pub(crate) fn lane_in_flight(&self) -> usize {
        self.lane.in_flight.min((self.max_in_flight / 4).max(1))
    }
}
