//! Holding a message: kept by in-progress acks while work on it goes on; it is acked when all of it is settled, and never
//! NAKed. Left alone it comes again after the consumer's `ack_wait`, here or at another dispatcher.

use std::pin::Pin;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::Acker;
use tokio::time::sleep;
use tracing::warn;

/// A third of the consumers' `ack_wait`.
const KEEP: Duration = Duration::from_secs(2);

/// The work on a message was given up before all of it was settled: this dispatcher may not go on. The message is not
/// acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abandoned;

/// Does the work, keeping the message meanwhile. The work is pinned already: moved in here, each event would carry its
/// size twice.
pub(crate) async fn hold(
    acker: &Acker,
    work: Pin<&mut impl Future<Output = Result<(), Abandoned>>>,
) -> Result<(), Abandoned> {
    // Beside the work, not between: a connection that takes no ack must not stop an attempt.
    let keeping = async {
        loop {
            sleep(KEEP).await;
            Box::pin(acknowledge(acker, AckKind::Progress)).await;
        }
    };
    tokio::select! {
        biased;
        result = work => result,
        () = keeping => Err(Abandoned),
    }
}

/// A lost ack is a duplicate with the same id, so it is not repeated.
pub(crate) async fn acknowledge(acker: &Acker, kind: AckKind) {
    if let Err(error) = acker.ack_with(kind).await {
        warn!(error = %error, "can't ack");
    }
}
