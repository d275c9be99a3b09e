//! Keeps the consumers that dispatchers share as Hookwright creates them.

use async_nats::jetstream::{ErrorCode, consumer};
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use crate::nats::drift::{self, ConsumerFix};
use crate::nats::jetstream::{ConsumerAction, JetStream, JsResult};

/// The answer to a pause or its end.
#[derive(Deserialize)]
struct Resumed {}

/// Whether a consumer is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The consumer is as it should be.
    Right,
    /// The consumer has to be deleted and created again.
    Recreate,
}

/// The key in a consumer's metadata for the number of unacked messages that a limit of the server or the account leaves it.
const LIMITED: &str = "hookwright.dev/limited-ack-pending";
/// The key for the number of messages that a pull may ask for, as the server's limit has it.
const LIMITED_BATCH: &str = "hookwright.dev/limited-batch";

/// Creates or updates a consumer. If a limit of the server or the account allows it fewer unacked messages, it gets half as
/// many, and again half, until they are allowed. The server itself limits the messages that a pull may ask for, and says
/// so in its answer; that is noted, so that it is told from somebody's edit.
pub(crate) async fn put(
    js: &JetStream,
    stream: &str,
    config: &consumer::Config,
    action: ConsumerAction,
) -> JsResult<()> {
    let (mut config, mut action) = (config.clone(), action);
    loop {
        let error = match js.put_consumer(stream, &config, action).await {
            Ok(made) if made.config.max_batch > 0 && config.max_batch == 0 => {
                config = limited_batch(config, made.config.max_batch);
                action = ConsumerAction::Update;
                continue;
            }
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match error.code() {
            Some(ErrorCode::CONSUMER_MAX_PENDING_ACK_EXCESS) if config.max_ack_pending > 1 => {
                config.max_ack_pending /= 2;
                config.metadata.insert(LIMITED.to_owned(), config.max_ack_pending.to_string());
            }
            // The server's limit is lower than it was.
            Some(ErrorCode::CONSUMER_MAX_REQUEST_BATCH_EXCEEDED) if config.max_batch > 0 => config.max_batch = 0,
            _ => return Err(error),
        }
    }
}

fn limited_batch(mut config: consumer::Config, limit: i64) -> consumer::Config {
    config.max_batch = limit;
    config.metadata.insert(LIMITED_BATCH.to_owned(), limit.to_string());
    config
}

/// Returns the wanted consumer with as many unacked messages as were left to the one that is there, and with pulls as large.
fn as_limited(wanted: &consumer::Config, live: &consumer::Config) -> consumer::Config {
    let limit = |key| live.metadata.get(key).and_then(|limit| limit.parse().ok());
    consumer::Config {
        max_ack_pending: wanted.max_ack_pending.min(limit(LIMITED).unwrap_or(i64::MAX)),
        max_batch: limit(LIMITED_BATCH).unwrap_or(wanted.max_batch),
        ..wanted.clone()
    }
}

/// Sets a consumer right and ends a pause of it, as far as NATS can do that in place.
pub(crate) async fn set_right(
    js: &JetStream,
    stream: &str,
    wanted: &consumer::Config,
    live: &consumer::Config,
) -> JsResult<Kept> {
    let name = live.durable_name.as_deref().or(live.name.as_deref()).unwrap_or_default();
    let fix = drift::consumer(&as_limited(wanted, live), live);
    if matches!(fix, Some(ConsumerFix::Recreate)) {
        return Ok(Kept::Recreate);
    }
    if live.pause_until.is_some() {
        info!(stream, consumer = name, "ending the pause of the consumer");
        let _: Resumed = js.ask(format!("CONSUMER.PAUSE.{stream}.{name}"), &json!({})).await?;
    }
    if let Some(ConsumerFix::Update(right)) = fix {
        info!(stream, consumer = name, "setting the consumer right");
        let right = consumer::Config { pause_until: None, ..*right };
        put(js, stream, &right, ConsumerAction::Update).await?;
    }
    Ok(Kept::Right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::configs;
    use hookwright_core::nats::installation::Names;

    #[test]
    fn a_limit_of_the_server_is_no_drift() {
        let wanted = configs::due(&Names::default());
        let mut live = consumer::Config { max_ack_pending: 781, ..wanted.clone() };
        assert!(drift::consumer(&as_limited(&wanted, &live), &live).is_some(), "somebody's edit");
        live.metadata.insert(LIMITED.to_owned(), "781".to_owned());
        assert_eq!(drift::consumer(&as_limited(&wanted, &live), &live), None);
        live.max_ack_pending = 1;
        assert!(drift::consumer(&as_limited(&wanted, &live), &live).is_some(), "an edit beside the limit");
    }

    #[test]
    fn a_limit_of_pulls_is_no_drift() {
        let wanted = configs::due(&Names::default());
        let live = consumer::Config { max_batch: 100, ..wanted.clone() };
        assert!(drift::consumer(&as_limited(&wanted, &live), &live).is_some(), "somebody's edit");
        let mut live = limited_batch(live, 100);
        assert_eq!(drift::consumer(&as_limited(&wanted, &live), &live), None);
        live.max_batch = 1;
        assert!(drift::consumer(&as_limited(&wanted, &live), &live).is_some(), "an edit beside the limit");
    }
}
