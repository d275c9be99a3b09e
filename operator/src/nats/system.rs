//! Keeps Hookwright's own streams, buckets and the consumer of due deliveries in place. The operator creates them at the
//! start. After each reconnect and every 5 s, it creates what is missing and sets right what someone has changed.
//!
//! The bucket of leases is in memory, so it is lost when a single server restarts. Dispatchers deliver nothing until it
//! is there again.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::Config;
use hookwright_core::nats::installation::Names;
use hookwright_core::nats::names;
use hookwright_runtime::logging;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::faults;
use crate::nats::consumers::{self, Kept};
use crate::nats::jetstream::{ConsumerAction, JetStream, JsError, JsResult};
use crate::nats::{configs, drift};
use crate::readiness::{Part, Readiness};
use crate::settings::SystemStreams;

const CHECK: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(250);

/// One of Hookwright's own streams is not as it has to be.
#[derive(Debug, thiserror::Error)]
enum SystemError {
    #[error("can't check or create the stream {stream}")]
    Stream { stream: String, source: JsError },
    #[error(
        "the stream {stream} is not as Hookwright needs it ({fields}), and NATS can't change that in place: stop the \
         dispatchers, delete the stream, and start them when the operator has created it anew. What it holds is lost \
         then, so save it first (nats stream backup {stream})"
    )]
    Unchangeable { stream: String, fields: String, source: JsError },
    #[error(
        "the stream {stream} is not as Hookwright needs it ({fields}), and NATS keeps it so: raise the limits of the \
         server or the account that stand in the way"
    )]
    Kept { stream: String, fields: String },
    #[error("the stream {stream} does not support scheduled messages: NATS 2.12.7 or newer is needed on every server")]
    NoSchedules { stream: String },
    #[error("a fault in Hookwright keeps the stream {stream} from being looked at")]
    Panicked { stream: String },
}

impl SystemError {
    /// Returns whether NATS is only away for the moment.
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Stream { source, .. } if source.is_unavailable())
    }
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
                if error.is_unavailable() { RETRY } else { CHECK }
            }
        };
        tokio::select! {
            _ = connected.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Sets everything right, and returns the first error.
async fn ensure(js: &JetStream, settings: SystemStreams) -> Result<(), SystemError> {
    let failed = |source| SystemError::Stream { stream: names::PARKED_STREAM.to_owned(), source };
    let installation = js.names().map_err(failed)?;
    let mut first = Ok(());
    for config in configs::streams(settings, installation) {
        let looked = faults::one(&config.name, ensure_stream(js, &config)).await;
        first = first.and(looked.unwrap_or_else(|| Err(SystemError::Panicked { stream: config.name.clone() })));
    }
    first.and(ensure_due(js, installation).await.map_err(failed))
}

async fn ensure_stream(js: &JetStream, wanted: &Config) -> Result<(), SystemError> {
    let stream = &wanted.name;
    let failed = |source| SystemError::Stream { stream: stream.clone(), source };
    let mut live = match js.stream(stream).await.map_err(failed)? {
        Some(info) => info.config,
        None => {
            let info = js.create_stream(wanted).await.map_err(failed)?;
            info!(stream, "created the stream");
            info.config
        }
    };
    if let Some(right) = drift::stream(wanted, &live) {
        let fields = drift::differences(&right, &live);
        live = match js.update_stream(&right).await {
            Ok(info) => info.config,
            Err(source) if is_for_good(&source) => {
                return Err(SystemError::Unchangeable { stream: stream.clone(), fields, source });
            }
            Err(source) => return Err(failed(source)),
        };
        info!(stream, changed = fields, "set the stream right");
    }
    check(wanted, &live)
}

fn is_for_good(error: &JsError) -> bool {
    matches!(error.code(), Some(ErrorCode::STREAM_INVALID_CONFIG | ErrorCode::STREAM_UPDATE))
}

/// Checks what NATS has made of the configuration. An older server drops what it doesn't know.
fn check(wanted: &Config, live: &Config) -> Result<(), SystemError> {
    let stream = wanted.name.clone();
    match drift::stream(wanted, live) {
        None => Ok(()),
        Some(right) if right.allow_message_schedules && !live.allow_message_schedules => {
            Err(SystemError::NoSchedules { stream })
        }
        Some(right) => Err(SystemError::Kept { stream, fields: drift::differences(&right, live) }),
    }
}

/// The deliveries are in the stream, so nothing is lost with a consumer that is created again.
async fn ensure_due(js: &JetStream, installation: &Names) -> JsResult<()> {
    let (parked, name) = (installation.stream(names::PARKED_STREAM), names::DUE_CONSUMER);
    let stream = &*parked;
    let wanted = configs::due(installation);
    if let Some(live) = js.consumer(stream, name).await? {
        if consumers::set_right(js, stream, &wanted, &live.config).await? == Kept::Right {
            return Ok(());
        }
        js.delete_consumer(stream, name).await?;
    }
    consumers::put(js, stream, &wanted, ConsumerAction::Create).await?;
    info!(stream, consumer = name, "created the consumer");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_drops_is_told() {
        let streams = configs::streams(SystemStreams::default(), &Names::default());
        let parked = streams.into_iter().find(|config| config.name == names::PARKED_STREAM);
        let parked = parked.unwrap();
        assert!(check(&parked, &parked).is_ok());
        let old = Config { allow_message_schedules: false, ..parked.clone() };
        assert!(matches!(check(&parked, &old), Err(SystemError::NoSchedules { .. })));
        let limited = Config { max_bytes: 1, ..parked.clone() };
        let error = check(&parked, &limited).unwrap_err().to_string();
        assert!(error.contains("HOOKWRIGHT_PARKED") && error.contains("max_bytes: 1"), "{error}");
    }
}
