//! Keeps the consumers that dispatchers share as Hookwright creates them.

use async_nats::jetstream::consumer;
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

/// Sets a consumer right and ends a pause of it, as far as NATS can do that in place.
pub(crate) async fn set_right(
    js: &JetStream,
    stream: &str,
    wanted: &consumer::Config,
    live: &consumer::Config,
) -> JsResult<Kept> {
    let name = live.durable_name.as_deref().or(live.name.as_deref()).unwrap_or_default();
    let fix = drift::consumer(wanted, live);
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
        js.put_consumer(stream, &right, ConsumerAction::Update).await?;
    }
    Ok(Kept::Right)
}
