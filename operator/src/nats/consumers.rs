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

/// Creates or updates a consumer. If a limit of the server or the account allows it fewer unacked messages, it gets half as
/// many, and again half, until they are allowed.
pub(crate) async fn put(
    js: &JetStream,
    stream: &str,
    config: &consumer::Config,
    action: ConsumerAction,
) -> JsResult<()> {
    let mut config = config.clone();
    loop {
        match js.put_consumer(stream, &config, action).await {
            Err(error)
                if error.code() == Some(ErrorCode::CONSUMER_MAX_PENDING_ACK_EXCESS) && config.max_ack_pending > 1 =>
            {
                config.max_ack_pending /= 2;
                config.metadata.insert(LIMITED.to_owned(), config.max_ack_pending.to_string());
            }
            answer => return answer.map(drop),
        }
    }
}

/// Returns the wanted consumer with as many unacked messages as were left to the one that is there.
fn as_limited(wanted: &consumer::Config, live: &consumer::Config) -> consumer::Config {
    let limit = live.metadata.get(LIMITED).and_then(|limit| limit.parse().ok()).unwrap_or(i64::MAX);
    consumer::Config { max_ack_pending: wanted.max_ack_pending.min(limit), ..wanted.clone() }
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
}
