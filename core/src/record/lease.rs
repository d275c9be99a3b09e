//! The liveness leases of dispatchers: which dispatchers are alive, and which config they have loaded.
//!
//! A dispatcher renews a key in `HOOKWRIGHT_LEASES`, which names the revision of the config bucket that it has loaded.
//! It matches events and starts attempts only while its last confirmed renewal is younger than [`TRUST`], by its own
//! monotonic clock. A reader of the leases counts a dispatcher as alive for [`TTL`] after the last renewal that it saw.
//! As [`TRUST`] is well below [`TTL`], no dispatcher acts on a config that the operator no longer waits for.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::nats::ids::ProducerUid;

/// How long a lease is valid for its readers. NATS removes a lease at this age.
pub const TTL: Duration = Duration::from_secs(8);
/// How long a dispatcher trusts its own last confirmed renewal.
pub const TRUST: Duration = Duration::from_secs(4);
/// The longest time between two renewals of a dispatcher.
pub const RENEW: Duration = Duration::from_secs(2);

/// A revision of a bucket. A bucket that is made anew counts its revisions from 1 again, so only revisions of one bucket
/// can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketRevision {
    /// When the bucket was created.
    pub created: Timestamp,
    /// The revision.
    pub revision: u64,
}

impl BucketRevision {
    /// Whether everything up to `goal` is loaded, if everything up to this revision is.
    #[must_use]
    pub fn has_reached(self, goal: Self) -> bool {
        self.created == goal.created && self.revision >= goal.revision
    }
}

/// The value of a lease. A reader ignores fields that it doesn't know: dispatchers are upgraded before the operator, and
/// a lease that an older operator could not read would keep everything from becoming programmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DispatcherLease {
    /// The record version, [`crate::record::VERSION`].
    pub version: u32,
    /// The revision of the config bucket up to which this dispatcher has loaded all records.
    pub revision: u64,
    /// How far this dispatcher has loaded the bucket of positions; none if it may be out of date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<BucketRevision>,
    /// The Producers that the dispatcher doesn't serve because it can't read one of their records: another key sealed
    /// it, or a newer release wrote it. Records of these Producers count as not loaded, whatever the revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved: Vec<ProducerUid>,
    /// The names of the [`Feature`](crate::record::Feature)s that the dispatcher reads. A newer dispatcher may read
    /// features that the reader of the lease doesn't know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// How much the dispatcher keeps in NATS. An older dispatcher doesn't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps: Option<Keeps>,
    /// The [digest](crate::destination::egress::Egress::digest) of the egress rules that the dispatcher goes by. An older
    /// dispatcher doesn't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
}

/// How much a dispatcher keeps in NATS at most, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keeps {
    /// All parked deliveries together.
    pub parked: u64,
    /// The dead letters of one namespace.
    pub dead_letters: u64,
}

/// The value of a slot's lease: the dispatcher that does the owned work of the slot's Subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotLease {
    /// The record version, [`crate::record::VERSION`].
    pub version: u32,
    /// The incarnation of the dispatcher.
    pub dispatcher: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::decode;

    #[test]
    fn a_lease_of_a_newer_dispatcher_can_be_read() {
        let lease: DispatcherLease = decode(br#"{"version":1,"revision":7,"features":["Later"],"more":9}"#).unwrap();
        let features = vec!["Later".to_owned()];
        assert_eq!(lease, DispatcherLease { version: 1, revision: 7, features, ..DispatcherLease::default() });
    }

    #[test]
    fn revisions_of_another_bucket_reach_nothing() {
        let at = |second, revision| BucketRevision { created: Timestamp::from_second(second).unwrap(), revision };
        for (loaded, goal, reached) in [
            (at(1, 3), at(1, 3), true),
            (at(1, 4), at(1, 3), true),
            (at(1, 2), at(1, 3), false),
            // The bucket was made anew, and the dispatcher has not noticed yet; or nobody else has.
            (at(1, 1000), at(2, 3), false),
            (at(2, 1000), at(1, 3), false),
        ] {
            assert_eq!(loaded.has_reached(goal), reached, "{loaded:?} {goal:?}");
        }
    }
}
