//! The bucket of the dispatchers' liveness leases.

use async_nats::jetstream::kv::Config;
use async_nats::jetstream::stream::StorageType;
use hookwright_core::nats::names::LEASES_BUCKET;
use hookwright_core::record::lease::TTL;

/// How the bucket is made. In memory, as a full disk refuses writes: so a server that stands alone loses it when it
/// restarts. Whoever misses it first makes it anew, operator or dispatcher: dispatchers deliver without an operator.
#[must_use]
pub fn bucket() -> Config {
    Config {
        bucket: LEASES_BUCKET.to_owned(),
        description: "Which Hookwright dispatchers are alive".to_owned(),
        history: 1,
        max_age: TTL,
        storage: StorageType::Memory,
        ..Config::default()
    }
}
