//! Holding a message: kept by in-progress acks while work on it goes on, acked when all of it is settled. It is never
//! NAKed. Left alone it comes again after the consumer's `ack_wait`, here or at another dispatcher.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::Acker;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::warn;

/// A third of the consumers' `ack_wait`.
const KEEP: Duration = Duration::from_secs(2);

/// The work on a message was given up before all of it was settled: this dispatcher may not go on. The message is not
/// acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abandoned;

/// Does the work, keeping the message meanwhile, then acks it.
pub(crate) async fn hold(acker: &Acker, work: impl Future<Output = Result<(), Abandoned>>) {
    let mut keep = interval_at(Instant::now() + KEEP, KEEP);
    keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Beside the work, not between: a connection that takes no ack must not stop an attempt.
    let keeping = async {
        loop {
            keep.tick().await;
            acknowledge(acker, AckKind::Progress).await;
        }
    };
    let result = tokio::select! {
        biased;
        result = work => result,
        () = keeping => Err(Abandoned),
    };
    if result.is_ok() {
        acknowledge(acker, AckKind::Ack).await;
    }
}

/// A lost ack is a duplicate with the same id, so it is not repeated.
async fn acknowledge(acker: &Acker, kind: AckKind) {
    if let Err(error) = acker.ack_with(kind).await {
        warn!(error = %error, "can't ack");
    }
}
