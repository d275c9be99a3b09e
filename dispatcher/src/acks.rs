//! Acks. Those of settled messages are sent some at a time: each write to NATS is two system calls, one of them the
//! server's, and costs more than all else about an ack.
//!
//! The client library's messages ack themselves; for this each has its own copy of the connection's many counted
//! references. These acks share one.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, Subject};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::timeout;
use tracing::warn;

use crate::budget::Share;
use crate::deliver::Slot;

/// So many go at a time.
const MOST: usize = 256;
/// How long an ack that can't leave counts as under way.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// Where settled messages are handed over. Each keeps its share of the budget until its ack is on its way, so there are
/// never more than the budget allows; and the slot of its last attempt, so that what arrived and comes again after a
/// dispatcher was killed is bounded by what it may have under way.
#[derive(Clone)]
pub(crate) struct Acks(Arc<Inner>);

struct Inner {
    client: Client,
    settled: mpsc::UnboundedSender<Settled>,
}

struct Settled {
    reply: Subject,
    _share: Share,
    _slot: Option<Slot>,
}

impl Acks {
    /// With the task that sends them, which ends when all of these are dropped.
    pub(crate) fn new(client: Client) -> (Self, impl Future<Output = ()>) {
        let (sender, settled) = mpsc::unbounded_channel();
        let sending = send(client.clone(), settled);
        (Self(Arc::new(Inner { client, settled: sender })), sending)
    }

    /// The message that is acked to `reply` is settled.
    pub(crate) fn settled(&self, reply: Subject, share: Share, slot: Option<Slot>) {
        // The receiver lives as long as a sender.
        let _ = self.0.settled.send(Settled { reply, _share: share, _slot: slot });
    }

    /// The message that is acked to `reply` is worked on.
    pub(crate) async fn progress(&self, reply: &Subject) {
        acknowledge(&self.0.client, reply.clone(), AckKind::Progress).await;
    }
}

async fn send(client: Client, mut settled: mpsc::UnboundedReceiver<Settled>) {
    let mut some = Vec::with_capacity(MOST);
    while settled.recv_many(&mut some, MOST).await > 0 {
        for Settled { reply, .. } in &some {
            acknowledge(&client, reply.clone(), AckKind::Ack).await;
        }
        // Without NATS, what is in hand goes on for as long as the lease lasts.
        let _ = timeout(UNDER_WAY, client.flush()).await;
        some.clear();
        // What is settled in this round goes with the next ones, not one by one.
        yield_now().await;
    }
}

/// A lost ack is a duplicate with the same id, so it is not repeated.
async fn acknowledge(client: &Client, reply: Subject, kind: AckKind) {
    if let Err(error) = client.publish(reply, kind.into()).await {
        warn!(error = %error, "can't ack");
    }
}
