//! The operator's settings file.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use hookwright_core::nats::installation::Names;
use hookwright_runtime::admin::AdminSettings;
use hookwright_runtime::logging::LogSettings;
use hookwright_runtime::nats::NatsSettings;
use hookwright_runtime::sealing::SealingSettings;
use hookwright_runtime::settings::duration;
use serde::Deserialize;

use crate::kubernetes::limit::RequestLimits;
use crate::quotas::Quotas;
use crate::served::ServedNamespaces;
use crate::tenancy::Tenancy;

/// The operator's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// How to reach NATS.
    pub nats: NatsSettings,
    /// Where the admin endpoint listens.
    pub http: AdminSettings,
    /// The key that seals secrets on their way to the dispatchers.
    pub sealing: SealingSettings,
    /// How to log.
    #[serde(default)]
    pub log: LogSettings,
    /// How many requests the Kubernetes API server gets.
    #[serde(default)]
    pub kubernetes: RequestLimits,
    /// How often each Secret is read again.
    #[serde(default = "default_secret_refresh", deserialize_with = "duration::deserialize")]
    pub secret_refresh: Duration,
    /// How long a generated signing key signs beside the one that replaces it.
    #[serde(default = "default_signing_key_overlap", deserialize_with = "duration::deserialize")]
    pub signing_key_overlap: Duration,
    /// How long a deletion waits for NATS.
    #[serde(default = "default_finalizer_timeout", deserialize_with = "duration::deserialize")]
    pub finalizer_timeout: Duration,
    /// Which namespaces are served.
    #[serde(default)]
    pub namespaces: ServedNamespaces,
    /// Which installation this is.
    #[serde(default)]
    pub installation: InstallationSettings,
    /// How long an object has to be absent before what it left in NATS is removed.
    #[serde(default = "default_orphan_grace", deserialize_with = "duration::deserialize")]
    pub orphan_grace: Duration,
    /// Which Producer takes up the stream of one that was deleted.
    #[serde(default)]
    pub retained_streams: RetainedStreams,
    /// How much of each kind is accepted.
    #[serde(default)]
    pub limits: LimitSettings,
    /// How Hookwright's own streams are kept.
    #[serde(default)]
    pub system_streams: SystemStreams,
    /// The file that says which URLs and addresses may be dialled. The dispatchers have the same.
    #[serde(default)]
    pub egress_file: Option<PathBuf>,
    /// How much each namespace may have.
    #[serde(default)]
    pub quotas: Quotas,
    /// Which namespaces may use which streams and subjects.
    #[serde(default)]
    pub tenancy: Tenancy,
}

fn default_secret_refresh() -> Duration {
    Duration::from_secs(20)
}

fn default_signing_key_overlap() -> Duration {
    Duration::from_secs(24 * 3600)
}

fn default_finalizer_timeout() -> Duration {
    Duration::from_secs(600)
}

fn default_orphan_grace() -> Duration {
    Duration::from_secs(3600)
}

/// How much of each kind is accepted.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LimitSettings {
    /// How many EventSchemas of one Producer are accepted: dispatchers hold all of them in memory.
    pub event_schemas_per_producer: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { event_schemas_per_producer: 100 }
    }
}

/// How Hookwright's own streams are kept.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SystemStreams {
    /// The number of servers that hold each stream.
    pub replicas: usize,
    /// Where the streams are kept.
    pub storage: Storage,
    /// How long dead letters are kept.
    pub dead_letters: DeadLetters,
}

impl Default for SystemStreams {
    fn default() -> Self {
        Self { replicas: 1, storage: Storage::File, dead_letters: DeadLetters::default() }
    }
}

/// How long dead letters are kept. The oldest go first.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeadLetters {
    /// How old a dead letter may become; 0 means as old as it likes.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_age: Duration,
    /// How many dead letters of one Subscription are kept, and how many of one Producer's own events.
    pub per_subscription: NonZeroU32,
}

impl Default for DeadLetters {
    fn default() -> Self {
        const MOST: NonZeroU32 = NonZeroU32::new(10_000).expect("it is above 0");
        Self { max_age: Duration::from_secs(14 * 24 * 3600), per_subscription: MOST }
    }
}

/// Which installation this is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct InstallationSettings {
    /// The id of the installation of a cluster that is gone, which this cluster takes over. It does nothing once that was
    /// done.
    pub take_over: Option<String>,
    /// What the names of its streams, buckets and subjects in NATS have that others in the account have not. The
    /// dispatchers have the same setting.
    pub prefix: Names,
}

/// Which Producer takes up the stream that a Producer of the same namespace and name has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum RetainedStreams {
    /// One in the same namespace. A namespace that was deleted and created again is another one.
    #[default]
    SameNamespace,
    /// One in a namespace of the same name.
    SameName,
}

/// Where a stream is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Storage {
    /// The stream is kept on disk.
    File,
    /// The stream is kept in memory, and is lost when the servers that hold it restart.
    Memory,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value};

    use super::*;

    #[test]
    fn the_documented_example_has_the_defaults() {
        let docs = include_str!("../../docs/reference/settings.md");
        let example = docs.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let mut written: Value = serde_saphyr::from_str(example).unwrap();
        let mut required = written.clone();
        required.as_object_mut().unwrap().retain(|key, _| ["nats", "http", "sealing", "log"].contains(&key.as_str()));
        written.as_object_mut().unwrap().remove("tenancy");
        let read = |settings| format!("{:#?}", from_value::<Settings>(settings).unwrap());
        assert_eq!(read(written), read(required));
    }
}
