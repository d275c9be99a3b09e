//! Hookwright's own streams, buckets and the consumer of due deliveries. The operator creates them at the start, and
//! checks them after each reconnect and every 30 s.
//!
//! The bucket of leases is in memory, so it is lost when a single server restarts. Dispatchers deliver nothing until it
//! is there again.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use hookwright_core::nats::names;
use hookwright_core::record::lease;
use hookwright_runtime::logging;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::nats::jetstream::{ConsumerAction, JetStream, JsError};
use crate::readiness::{Part, Readiness};
use crate::settings::{Storage, SystemStreams};

/// How long a consumer waits for an ack. The events of a dispatcher that died wait as long.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(6);
/// How many messages of a consumer may be unacked at the same time. It is high, so that slow endpoints don't stall the
/// consumer.
pub(crate) const MAX_ACK_PENDING: i64 = 50_000;

const CHECK: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(250);

/// One of Hookwright's own streams is not as it has to be.
#[derive(Debug, thiserror::Error)]
enum SystemError {
    #[error("can't check or create the stream {stream}")]
    Stream { stream: String, source: JsError },
    #[error(
        "the stream {stream} has a limit ({limit}), which would silently drop deliveries that wait for a retry: \
         remove the limit from the stream"
    )]
    Limited { stream: String, limit: &'static str },
    #[error("the stream {stream} does not support scheduled messages: NATS 2.12.7 or newer is needed on every server")]
    NoSchedules { stream: String },
    #[error("the stream {stream} exists with other subjects or another retention than Hookwright needs; delete it")]
    Foreign { stream: String },
}

/// Keeps the streams, the buckets and the consumer in place.
pub(crate) async fn keep(
    js: &JetStream,
    settings: SystemStreams,
    mut connected: watch::Receiver<u64>,
    readiness: &Readiness,
) -> Infallible {
    let mut last: Option<String> = None;
    loop {
        connected.mark_unchanged();
        let wait = match ensure(js, settings).await {
            Ok(()) => {
                readiness.there(Part::SystemStreams);
                last = None;
                CHECK
            }
            Err(error) => {
                let text = logging::chain(&error);
                readiness.missing(Part::SystemStreams, text.clone());
                if last.as_ref() != Some(&text) {
                    warn!("{text}");
                    last = Some(text);
                }
                RETRY
            }
        };
        tokio::select! {
            _ = connected.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn ensure(js: &JetStream, settings: SystemStreams) -> Result<(), SystemError> {
    // The leases come first: without them nothing is delivered.
    for config in configs(settings) {
        let stream = config.name.clone();
        ensure_stream(js, &config).await?;
        if stream == names::PARKED_STREAM {
            ensure_due(js).await.map_err(|source| SystemError::Stream { stream, source })?;
        }
    }
    Ok(())
}

fn configs(settings: SystemStreams) -> Vec<Config> {
    let storage = match settings.storage {
        Storage::File => StorageType::File,
        Storage::Memory => StorageType::Memory,
    };
    let base = Config { num_replicas: settings.replicas, storage, allow_direct: true, ..Config::default() };
    let window = Duration::from_secs(120);
    let bucket = |name: &str| Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        allow_rollup: true,
        deny_delete: true,
        discard: DiscardPolicy::New,
        duplicate_window: window,
        ..base.clone()
    };
    let leases = Config {
        storage: StorageType::Memory,
        max_age: lease::TTL,
        duplicate_window: lease::TTL,
        ..bucket(names::LEASES_BUCKET)
    };
    let parked = Config {
        name: names::PARKED_STREAM.into(),
        subjects: vec![names::PARKED_SUBJECTS.into()],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::Old,
        allow_message_schedules: true,
        ..base.clone()
    };
    let dead = Config {
        name: names::DEAD_LETTER_STREAM.into(),
        subjects: vec![names::DEAD_LETTER_SUBJECTS.into()],
        discard: DiscardPolicy::Old,
        max_messages_per_subject: 10_000,
        max_age: Duration::from_secs(14 * 24 * 3600),
        duplicate_window: window,
        ..base.clone()
    };
    // The config bucket is never in memory. After a restart of NATS, dispatchers would serve while the operator writes
    // the records again. Events would be acked that some Subscriptions never got.
    let config = Config { storage: StorageType::File, ..bucket(names::CONFIG_BUCKET) };
    let [state, health] = [names::STATE_BUCKET, names::HEALTH_BUCKET].map(bucket);
    vec![leases, config, state, health, parked, dead]
}

async fn ensure_stream(js: &JetStream, wanted: &Config) -> Result<(), SystemError> {
    let stream = wanted.name.clone();
    let failed = |source| SystemError::Stream { stream: stream.clone(), source };
    let live = match js.stream(&stream).await.map_err(failed)? {
        Some(info) => info.config,
        None => {
            let info = js.create_stream(wanted).await.map_err(failed)?;
            info!(stream, "created the stream");
            info.config
        }
    };
    check(wanted, &live)
}

/// Checks a stream. Limits of size, replicas and placement are up to the administrator, except limits that lose
/// deliveries.
fn check(wanted: &Config, live: &Config) -> Result<(), SystemError> {
    let stream = wanted.name.clone();
    if live.retention != wanted.retention || live.subjects != wanted.subjects {
        return Err(SystemError::Foreign { stream });
    }
    if !wanted.allow_message_schedules {
        return Ok(());
    }
    if !live.allow_message_schedules {
        return Err(SystemError::NoSchedules { stream });
    }
    let limits = [
        ("max_msgs", live.max_messages > 0),
        ("max_bytes", live.max_bytes > 0),
        ("max_msgs_per_subject", live.max_messages_per_subject > 0),
        ("max_age", !live.max_age.is_zero()),
        ("max_msg_size", live.max_message_size > 0),
    ];
    match limits.iter().find(|(_, limited)| *limited) {
        Some((limit, _)) => Err(SystemError::Limited { stream, limit }),
        None => Ok(()),
    }
}

async fn ensure_due(js: &JetStream) -> Result<(), JsError> {
    let stream = names::PARKED_STREAM;
    if js.consumer(stream, names::DUE_CONSUMER).await?.is_some() {
        return Ok(());
    }
    let config = consumer::Config {
        filter_subject: names::PARKED_DUE_SUBJECTS.into(),
        ..shared_consumer(names::DUE_CONSUMER.into(), DeliverPolicy::All)
    };
    js.put_consumer(stream, &config, ConsumerAction::Create).await?;
    info!(stream, consumer = names::DUE_CONSUMER, "created the consumer");
    Ok(())
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
        ..consumer::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_is_always_in_files_and_the_leases_never() {
        for (setting, rest) in [(Storage::File, StorageType::File), (Storage::Memory, StorageType::Memory)] {
            for config in configs(SystemStreams { storage: setting, ..SystemStreams::default() }) {
                let want = match config.name.strip_prefix("KV_") {
                    Some(names::CONFIG_BUCKET) => StorageType::File,
                    Some(names::LEASES_BUCKET) => StorageType::Memory,
                    _ => rest,
                };
                assert_eq!(config.storage, want, "{}", config.name);
            }
        }
    }

    #[test]
    fn parked_deliveries_must_not_be_limited() {
        let parked = configs(SystemStreams::default()).into_iter().find(|c| c.name == names::PARKED_STREAM).unwrap();
        assert!(check(&parked, &parked).is_ok());
        let unlimited = Config { max_messages: -1, max_bytes: -1, max_messages_per_subject: -1, ..parked.clone() };
        assert!(check(&parked, &unlimited).is_ok());
        let limited = Config { max_bytes: 1, ..parked.clone() };
        assert!(matches!(check(&parked, &limited), Err(SystemError::Limited { limit: "max_bytes", .. })));
        let old = Config { allow_message_schedules: false, ..parked.clone() };
        assert!(matches!(check(&parked, &old), Err(SystemError::NoSchedules { .. })));
        let foreign = Config { retention: RetentionPolicy::Limits, ..parked.clone() };
        assert!(matches!(check(&parked, &foreign), Err(SystemError::Foreign { .. })));
    }
}
