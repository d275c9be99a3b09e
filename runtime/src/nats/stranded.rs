//! A server that is cut off from the others of its cluster goes on answering pings. So the client would stay with it,
//! although JetStream is out of reach from there, and other servers could be reached.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::AccountErrorKind;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// The wait between two questions. An answer may take as long as the client waits for any.
const LOOK: Duration = Duration::from_secs(2);
/// For how long JetStream may be out of reach. A cluster that has lost a leader has another one sooner.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks JetStream for an answer again and again, and has the client connect anew when there was none for too long. The
/// client takes one of the servers at random, so it may take more than one try.
pub(super) async fn leave(client: &Client, jetstream: &Context) -> Infallible {
    let mut answered = Instant::now();
    loop {
        sleep(LOOK).await;
        // A server that stands alone has no others, and a client without a connection looks for another one by itself.
        let is_clustered = client.server_info().cluster.is_some();
        if !is_clustered || client.connection_state() != State::Connected || is_answered(jetstream).await {
            answered = Instant::now();
        } else if answered.elapsed() >= PATIENCE {
            let server = client.server_info().server_name;
            warn!(server, "JetStream is out of reach from this NATS server; connecting anew, to another one");
            if let Err(error) = client.force_reconnect().await {
                warn!(%error, "can't connect to NATS anew");
            }
            answered = Instant::now();
        }
    }
}

/// Whether JetStream answers, even if it refuses.
async fn is_answered(jetstream: &Context) -> bool {
    match jetstream.query_account().await.map_err(|error| error.kind()) {
        Ok(_) => true,
        Err(AccountErrorKind::JetStream(error)) => error.code() != 503,
        Err(_) => false,
    }
}
