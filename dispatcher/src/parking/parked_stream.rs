//! The stream of parked deliveries, without which a dispatcher does nothing.

use std::time::Duration;

use async_nats::jetstream::stream;
use hookwright_core::nats::names::PARKED_STREAM;
use hookwright_runtime::admin::NotReady;
use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::Nats;
use tokio::sync::watch;
use tracing::info;

const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Waits, not ready, until the operator has created the stream as it has to be. A full stream with limits would silently
/// drop deliveries that wait in it.
pub(crate) async fn wait_for(nats: &Nats, ready: &watch::Sender<NotReady>) {
    let mut last = None;
    loop {
        let reason = match nats.stream(PARKED_STREAM).await {
            Ok(found) => match unusable(&found.cached_info().config) {
                Some(reason) => reason,
                None => return,
            },
            Err(error) => {
                let stream = nats.names.stream(PARKED_STREAM);
                format!("waiting for stream {stream}, which the operator creates: {}", chain(&error))
            }
        };
        if last.as_ref() != Some(&reason) {
            info!("{reason}");
            ready.send_replace(Some(reason.clone()));
            last = Some(reason);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Returns why deliveries can't be parked in a stream with this configuration; none if they can.
fn unusable(config: &stream::Config) -> Option<String> {
    if !config.allow_message_schedules || config.retention != stream::RetentionPolicy::WorkQueue {
        return Some(format!(
            "stream {} is not a work queue with message schedules; delete it, and the operator creates it anew",
            config.name
        ));
    }
    let unlimited = config.max_bytes <= 0
        && config.max_messages <= 0
        && config.max_messages_per_subject <= 0
        && config.max_age.is_zero()
        && config.max_message_size <= 0;
    (!unlimited).then(|| {
        format!(
            "stream {} has limits, so it could drop deliveries; waiting for the operator, which removes them",
            config.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unlimited_work_queue_with_schedules_will_do() {
        let good = stream::Config {
            retention: stream::RetentionPolicy::WorkQueue,
            allow_message_schedules: true,
            max_bytes: -1,
            ..stream::Config::default()
        };
        assert_eq!(unusable(&good), None);
        let limited = stream::Config { max_age: Duration::from_secs(1), ..good.clone() };
        assert!(unusable(&limited).is_some_and(|reason| reason.contains("limits")));
        let other = stream::Config { retention: stream::RetentionPolicy::Limits, ..good };
        assert!(unusable(&other).is_some_and(|reason| reason.contains("work queue")));
    }
}
