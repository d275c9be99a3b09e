//! The dispatchers' liveness lease: who is alive, and with which config.
//!
//! A dispatcher renews a key in `HOOKWRIGHT_LEASES` that says up to which revision of the config bucket it has loaded.
//! It matches events and starts attempts only while its last confirmed renewal is younger than [`TRUST`], by its own
//! monotonic clock. Whoever reads the leases counts a dispatcher as alive for [`TTL`] after the last renewal that it
//! saw. As [`TRUST`] is well below [`TTL`], no dispatcher acts on an index that the operator no longer waits for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::nats::ids::ProducerUid;

/// How long a lease counts for those who read it; also the age at which NATS removes it.
pub const TTL: Duration = Duration::from_secs(8);
/// How long a dispatcher trusts its own last confirmed renewal.
pub const TRUST: Duration = Duration::from_secs(4);
/// How often a dispatcher renews, at the least.
pub const RENEW: Duration = Duration::from_secs(2);

/// The value of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DispatcherLease {
    /// [`crate::record::VERSION`].
    pub version: u32,
    /// The revision of the config bucket up to which this dispatcher has loaded.
    pub revision: u64,
    /// The producers that it does not serve, as it can't read one of their records: sealed with another key, or written
    /// by a newer release. What concerns them is not loaded, whatever the revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved: Vec<ProducerUid>,
}
