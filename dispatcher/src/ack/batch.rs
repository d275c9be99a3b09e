//! Sends acks in batches. Each write to NATS is two system calls, one of them the server's, and costs more than
//! everything else about an ack. So the acks of settled messages are sent some at a time. In-progress acks are sent for
//! all held messages at once, so no message has a timer.
//!
//! The client library's messages can ack themselves, but then each has its own copy of the connection's many counted
//! references. The acks here share one connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, Subject};
use slab::Slab;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

use crate::limits::budget::Share;

/// The most acks that are sent together.
const MOST: usize = 256;
/// How long an ack that can't leave counts as under way.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// How often in-progress acks are sent: a third of the consumers' `ack_wait`.
const KEEP: Duration = Duration::from_secs(2);

/// The acks of all messages that this dispatcher holds. A settled message keeps its share of the budget until its ack
/// is on its way, so there are never more messages than the budget allows. It also keeps `P`, the permit of its last
/// attempt. So the number of deliveries that come again after a kill is bounded by how many the dispatcher may have
/// under way.
pub(crate) struct Acks<P>(Arc<Inner<P>>);

struct Inner<P> {
    kept: Arc<Kept>,
    settled: mpsc::UnboundedSender<Settled<P>>,
}

impl<P> Clone for Acks<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The reply subjects of the messages that are held.
#[derive(Default)]
struct Kept(Mutex<Slab<Subject>>);

pub(crate) struct Settled<P> {
    reply: Subject,
    _share: Share,
    _permit: Option<P>,
}

impl<P> Acks<P> {
    /// The acks, and the task that sends them. The task ends when all clones of the acks are dropped.
    pub(crate) fn new(client: Client) -> (Self, impl Future<Output = ()>) {
        let (sender, settled) = mpsc::unbounded_channel();
        let kept = Arc::<Kept>::default();
        let sending = run(client, settled, Arc::clone(&kept));
        (Self(Arc::new(Inner { kept, settled: sender })), sending)
    }

    /// Sends in-progress acks to `reply` until [`Self::release`] is called with the key that this returns.
    pub(crate) fn keep(&self, reply: Subject) -> usize {
        self.0.kept.replies().insert(reply)
    }

    /// Ends the in-progress acks of a message and returns its reply subject.
    pub(crate) fn release(&self, kept: usize) -> Subject {
        self.0.kept.replies().remove(kept)
    }

    /// Acks the message whose reply subject is `reply`.
    pub(crate) fn settled(&self, reply: Subject, share: Share, permit: Option<P>) {
        // The receiver lives as long as a sender.
        let _ = self.0.settled.send(Settled { reply, _share: share, _permit: permit });
    }
}

impl Kept {
    // A poisoned lock means a panic in the slab, which is whole then.
    fn replies(&self) -> MutexGuard<'_, Slab<Subject>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn progress(&self, client: &Client) {
        let replies: Vec<Subject> = self.replies().iter().map(|(_, reply)| reply.clone()).collect();
        for reply in replies {
            acknowledge(client, reply, AckKind::Progress).await;
        }
    }
}

async fn run<P>(client: Client, settled: mpsc::UnboundedReceiver<Settled<P>>, kept: Arc<Kept>) {
    let keeping = async {
        let mut ticks = interval(KEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            kept.progress(&client).await;
        }
    };
    // The two run side by side: a settled message does not wait for the in-progress acks.
    tokio::select! {
        () = send(&client, settled) => {}
        () = keeping => {}
    }
}

async fn send<P>(client: &Client, mut settled: mpsc::UnboundedReceiver<Settled<P>>) {
    let mut some = Vec::with_capacity(MOST);
    while settled.recv_many(&mut some, MOST).await > 0 {
        for Settled { reply, .. } in &some {
            acknowledge(client, reply.clone(), AckKind::Ack).await;
        }
        // Without NATS, work goes on for as long as the lease lasts.
        let _ = timeout(UNDER_WAY, client.flush()).await;
        some.clear();
        // Messages that are settled in this round are acked with the next batch, not one by one.
        yield_now().await;
    }
}

/// Sends one ack. It is not repeated, because a lost ack only causes a duplicate with the same id.
async fn acknowledge(client: &Client, reply: Subject, kind: AckKind) {
    if let Err(error) = client.publish(reply, kind.into()).await {
        warn!(error = %error, "can't ack a message");
    }
}

#[cfg(test)]
impl<P> Acks<P> {
    /// Acks that nobody sends, and a receiver of the settled messages.
    pub(crate) fn unsent() -> (Self, mpsc::UnboundedReceiver<Settled<P>>) {
        let (sender, settled) = mpsc::unbounded_channel();
        (Self(Arc::new(Inner { kept: Arc::default(), settled: sender })), settled)
    }

    pub(crate) fn kept(&self) -> usize {
        self.0.kept.replies().len()
    }
}
