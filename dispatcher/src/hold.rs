//! Holding a message: kept by in-progress acks while work on it goes on; it is acked when all of it is settled, and never
//! NAKed. Left alone it comes again after the consumer's `ack_wait`, here or at another dispatcher.

use std::pin::Pin;
use std::time::Duration;

use async_nats::Subject;
use tokio::time::sleep;

use crate::acks::Acks;

/// A third of the consumers' `ack_wait`.
const KEEP: Duration = Duration::from_secs(2);

/// The work on a message was given up before all of it was settled: this dispatcher may not go on. The message is not
/// acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abandoned;

/// Does the work, keeping meanwhile the message that is acked to `reply`. The work is pinned already: moved in here, each
/// event would carry its size twice.
pub(crate) async fn hold<T>(
    acks: &Acks,
    reply: &Subject,
    work: Pin<&mut impl Future<Output = Result<T, Abandoned>>>,
) -> Result<T, Abandoned> {
    // Beside the work, not between: a connection that takes no ack must not stop an attempt.
    let keeping = async {
        loop {
            sleep(KEEP).await;
            Box::pin(acks.progress(reply)).await;
        }
    };
    tokio::select! {
        biased;
        result = work => result,
        () = keeping => Err(Abandoned),
    }
}
