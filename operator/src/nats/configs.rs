//! The configuration of Hookwright's own streams and buckets, and of the consumers that dispatchers share.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use async_nats::jetstream::stream::{Config, ConsumerLimits, DiscardPolicy, RetentionPolicy, StorageType};
use hookwright_core::nats::installation::Names;
use hookwright_core::nats::names;
use hookwright_core::record::lease;

use crate::settings::{Storage, SystemStreams};

/// How long a consumer waits for an ack. The events of a dispatcher that died wait as long.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(6);
/// How many messages of a consumer may be unacked at the same time. It is high, so that slow endpoints don't stall the
/// consumer.
const MAX_ACK_PENDING: i64 = 50_000;
/// How many pulls may wait at a consumer, which is the server's default. NATS can't change it in place.
const MAX_WAITING: i64 = 512;
/// For how long a stream knows the ids of its messages.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Returns the streams, those of the buckets included. The leases come first: without them nothing is delivered.
pub(crate) fn streams(settings: SystemStreams, installation: &Names) -> Vec<Config> {
    let storage = match settings.storage {
        Storage::File => StorageType::File,
        Storage::Memory => StorageType::Memory,
    };
    let base = Config {
        num_replicas: settings.replicas,
        storage,
        allow_direct: true,
        duplicate_window: DUPLICATE_WINDOW,
        ..Config::default()
    };
    let bucket = |name: &str| Config {
        name: format!("KV_{}", installation.stream(name)),
        subjects: vec![format!("$KV.{}.>", installation.stream(name))],
        max_messages_per_subject: 1,
        allow_rollup: true,
        deny_delete: true,
        discard: DiscardPolicy::New,
        // The mark of a removed key goes after a while.
        allow_message_ttl: true,
        ..base.clone()
    };
    let leases = Config {
        storage: StorageType::Memory,
        max_age: lease::TTL,
        duplicate_window: lease::TTL,
        // Everything in this bucket goes after a while.
        allow_message_ttl: false,
        ..bucket(names::LEASES_BUCKET)
    };
    let parked = Config {
        name: installation.stream(names::PARKED_STREAM).into_owned(),
        subjects: vec![installation.subject(names::PARKED_SUBJECTS).into_owned()],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::Old,
        allow_message_schedules: true,
        ..base.clone()
    };
    let max_age = settings.dead_letters.max_age;
    let dead = Config {
        name: installation.stream(names::DEAD_LETTER_STREAM).into_owned(),
        subjects: vec![installation.subject(names::DEAD_LETTER_SUBJECTS).into_owned()],
        discard: DiscardPolicy::Old,
        max_messages_per_subject: settings.dead_letters.per_subscription.get().into(),
        max_age,
        duplicate_window: if max_age.is_zero() { DUPLICATE_WINDOW } else { DUPLICATE_WINDOW.min(max_age) },
        ..base.clone()
    };
    // The config bucket is never in memory. After a restart of NATS, dispatchers would serve while the operator writes
    // the records again. Events would be acked that some Subscriptions never got.
    // Positions and cursors likewise: what a position covers was acked, and only the position says that it is still to be
    // delivered.
    let kept = |name| Config { storage: StorageType::File, ..bucket(name) };
    let [config, positions, cursors] = [names::CONFIG_BUCKET, names::POSITIONS_BUCKET, names::CURSORS_BUCKET].map(kept);
    let [state, health] = [names::STATE_BUCKET, names::HEALTH_BUCKET].map(bucket);
    vec![leases, config, positions, cursors, state, health, parked, dead]
}

/// Returns the consumer of due deliveries.
pub(crate) fn due(installation: &Names) -> consumer::Config {
    consumer::Config {
        filter_subject: installation.subject(names::PARKED_DUE_SUBJECTS).into_owned(),
        ..shared_consumer(names::DUE_CONSUMER.into(), DeliverPolicy::All)
    }
}

/// Returns the config of a durable pull consumer that all dispatchers share.
pub(crate) fn shared_consumer(name: String, deliver_policy: DeliverPolicy) -> consumer::Config {
    consumer::Config {
        durable_name: Some(name.clone()),
        name: Some(name),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // With a limit, messages would stay in the stream that nobody gets.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        max_waiting: MAX_WAITING,
        ..consumer::Config::default()
    }
}

/// Returns the consumer as the limits allow it that its stream sets for consumers. NATS removes a consumer that nobody has
/// read for as long as they say.
pub(crate) fn fit(config: consumer::Config, limits: Option<&ConsumerLimits>) -> consumer::Config {
    let Some(limits) = limits else { return config };
    let most = if limits.max_ack_pending > 0 { limits.max_ack_pending } else { i64::MAX };
    consumer::Config {
        max_ack_pending: config.max_ack_pending.min(most),
        inactive_threshold: limits.inactive_threshold,
        ..config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_lost_is_always_in_files_and_the_leases_never() {
        for (setting, rest) in [(Storage::File, StorageType::File), (Storage::Memory, StorageType::Memory)] {
            for config in streams(SystemStreams { storage: setting, ..SystemStreams::default() }, &Names::default()) {
                let want = match config.name.strip_prefix("KV_") {
                    Some(names::CONFIG_BUCKET | names::POSITIONS_BUCKET | names::CURSORS_BUCKET) => StorageType::File,
                    Some(names::LEASES_BUCKET) => StorageType::Memory,
                    _ => rest,
                };
                assert_eq!(config.storage, want, "{}", config.name);
            }
        }
    }
}
