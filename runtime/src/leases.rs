//! The KV bucket of the dispatchers' liveness leases.

use async_nats::jetstream::kv::Config;
use async_nats::jetstream::stream::StorageType;
use hookwright_core::nats::installation::Names;
use hookwright_core::nats::names::LEASES_BUCKET;
use hookwright_core::record::lease::TTL;

/// The configuration of the bucket. The bucket is in memory, because a full disk refuses writes. So a single NATS
/// server loses the bucket when it restarts. The operator and each dispatcher create the bucket again if they find it
/// missing, because dispatchers also deliver without an operator.
#[must_use]
pub fn bucket(names: &Names) -> Config {
    Config {
        bucket: names.stream(LEASES_BUCKET).into_owned(),
        description: "Which Hookwright dispatchers are alive".to_owned(),
        history: 1,
        max_age: TTL,
        storage: StorageType::Memory,
        ..Config::default()
    }
}
