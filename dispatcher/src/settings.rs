//! The dispatcher's settings file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hookwright_core::delivery::quota::ParkQuota;
use hookwright_core::nats::installation::Names;
use hookwright_runtime::admin::AdminSettings;
use hookwright_runtime::logging::LogSettings;
use hookwright_runtime::nats::NatsSettings;
use hookwright_runtime::sealing::SealingSettings;
use hookwright_runtime::settings::{Bytes, duration};
use serde::Deserialize;

/// The settings. Each has a default, except `nats`, `http` and `sealing`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    pub(crate) nats: NatsSettings,
    pub(crate) http: AdminSettings,
    pub(crate) sealing: SealingSettings,
    #[serde(default)]
    pub(crate) installation: InstallationSettings,
    /// The format and the level of logs.
    #[serde(default)]
    pub log: LogSettings,
    /// The file that says which endpoints may be dialled. The operator has the same.
    #[serde(default)]
    pub(crate) egress_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) dns: DnsSettings,
    #[serde(default)]
    pub(crate) connections: ConnectionSettings,
    #[serde(default)]
    pub(crate) limits: LimitSettings,
    #[serde(default)]
    pub(crate) lane: LaneSettings,
    #[serde(default)]
    pub(crate) parking: ParkingSettings,
    /// How long a stop may take. Within this time attempts under way are finished and waiting deliveries are parked.
    #[serde(default = "shutdown_grace", with = "duration")]
    pub(crate) shutdown_grace: Duration,
}

/// Which installation the dispatcher belongs to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct InstallationSettings {
    /// What the names of its streams, buckets and subjects in NATS have that others in the account have not. The operator
    /// has the same setting.
    pub(crate) prefix: Names,
}

/// How host names are resolved.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct DnsSettings {
    /// The name servers to ask. If there are none, the system's name servers and hosts file are used.
    pub(crate) nameservers: Vec<SocketAddr>,
}

/// The connections to endpoints.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct ConnectionSettings {
    /// How old a connection may be that is used for another request. So a name that has moved is noticed, and its new
    /// addresses are vetted.
    #[serde(with = "duration")]
    pub(crate) max_age: Duration,
}

/// How much one dispatcher takes on.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct LimitSettings {
    /// The most attempts under way at the same time, over all Subscriptions. An attempt with a large event counts as one
    /// for each 16 KiB.
    pub(crate) in_flight: usize,
    /// The most events held in memory at the same time.
    pub(crate) held_events: usize,
    /// The most bytes of these events together.
    pub(crate) held_bytes: Bytes,
    /// The most deliveries that wait for an endpoint, over all Subscriptions. Namespaces share these places.
    pub(crate) waiting: usize,
    /// The most Subscriptions that catch up at the same time. The others that are behind wait for their turn.
    pub(crate) catching_up: usize,
}

/// How much of a dispatcher one Subscription may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct LaneSettings {
    /// The most attempts under way at the same time; never more than a quarter of `limits.inFlight`.
    pub(crate) in_flight: usize,
    /// The most deliveries that wait for an attempt for up to 5 s, however slow the endpoint is. Further deliveries are
    /// parked, unless the endpoint is quick enough to take all that wait.
    pub(crate) waiting: usize,
}

/// How much may be parked, over all dispatchers.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct ParkingSettings {
    /// The most bytes of all parked deliveries together. From half of it on, quotas shrink.
    pub(crate) budget: Bytes,
    /// How much of one Subscription may be parked. A delivery beyond it becomes a dead letter.
    pub(crate) quota: QuotaSettings,
    /// The most bytes of a namespace's dead letters. Beyond it, dead letters are references without the event.
    pub(crate) dead_letters: Bytes,
}

/// How much of one Subscription may be parked.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct QuotaSettings {
    /// The most deliveries.
    pub(crate) deliveries: u32,
    /// The most bytes of these deliveries together.
    pub(crate) bytes: Bytes,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(300) }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { in_flight: 8192, held_events: 16384, held_bytes: Bytes::new(256 << 20), waiting: 4096, catching_up: 256 }
    }
}

impl Default for LaneSettings {
    fn default() -> Self {
        Self { in_flight: 64, waiting: 64 }
    }
}

impl Default for ParkingSettings {
    fn default() -> Self {
        Self { budget: Bytes::new(8 << 30), quota: QuotaSettings::default(), dead_letters: Bytes::new(1 << 30) }
    }
}

impl Default for QuotaSettings {
    fn default() -> Self {
        let ParkQuota { deliveries, bytes } = ParkQuota::default();
        Self { deliveries, bytes: Bytes::new(bytes) }
    }
}

impl From<QuotaSettings> for ParkQuota {
    fn from(QuotaSettings { deliveries, bytes }: QuotaSettings) -> Self {
        Self { deliveries, bytes: bytes.get() }
    }
}

fn shutdown_grace() -> Duration {
    Duration::from_secs(35)
}

impl Settings {
    /// Checks the rules that the types can't express.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let Self { limits, lane, parking, .. } = self;
        anyhow::ensure!((1..=100_000).contains(&limits.in_flight), "limits.inFlight must be 1 to 100000");
        anyhow::ensure!((1..=1_000_000).contains(&limits.held_events), "limits.heldEvents must be 1 to 1000000");
        anyhow::ensure!((1..=1_000_000).contains(&limits.waiting), "limits.waiting must be 1 to 1000000");
        anyhow::ensure!((1..=100_000).contains(&limits.catching_up), "limits.catchingUp must be 1 to 100000");
        let held_bytes = limits.held_bytes.get();
        anyhow::ensure!((16 << 20..=1 << 36).contains(&held_bytes), "limits.heldBytes must be 16Mi to 64Gi");
        anyhow::ensure!(parking.quota.deliveries > 0, "parking.quota.deliveries must be at least 1");
        anyhow::ensure!(lane.in_flight > 0, "lane.inFlight must be at least 1");
        anyhow::ensure!(lane.waiting <= 1_000_000, "lane.waiting must be at most 1000000");
        Ok(())
    }

    /// The most attempts of one Subscription under way at the same time.
    pub(crate) fn lane_in_flight(&self) -> usize {
        self.lane.in_flight.min((self.limits.in_flight / 4).max(1))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value};

    use super::*;

    #[test]
    fn the_documented_example_has_the_defaults() {
        let docs = include_str!("../../docs/reference/settings.md");
        let example = docs.split("```yaml\n").nth(2).and_then(|rest| rest.split("```").next()).unwrap();
        let written: Value = serde_saphyr::from_str(example).unwrap();
        let mut required = written.clone();
        required.as_object_mut().unwrap().retain(|key, _| ["nats", "http", "sealing", "log"].contains(&key.as_str()));
        let read = |settings| format!("{:#?}", from_value::<Settings>(settings).unwrap());
        assert_eq!(read(written), read(required));
    }
}
