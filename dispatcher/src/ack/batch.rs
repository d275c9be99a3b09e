//! Acks. Those of settled messages are sent some at a time: each write to NATS is two system calls, one of them the
//! server's, and costs more than all else about an ack. Those that keep what is worked on are sent for all messages at
//! once, so none has a timer.
//!
//! The client library's messages ack themselves; for this each has its own copy of the connection's many counted
//! references. These acks share one.

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

/// So many go at a time.
const MOST: usize = 256;
/// How long an ack that can't leave counts as under way.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// A third of the consumers' `ack_wait`.
const KEEP: Duration = Duration::from_secs(2);

/// Where messages are kept, and handed over once they are settled. A settled message keeps its share of the budget until its
/// ack is on its way, so there are never more than the budget allows. It also keeps `P`, the permit of its last attempt, so
/// that what comes again after a dispatcher was killed is bounded by what the dispatcher may have under way.
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

/// Where the messages that are worked on are acked.
#[derive(Default)]
struct Kept(Mutex<Slab<Subject>>);

pub(crate) struct Settled<P> {
    reply: Subject,
    _share: Share,
    _permit: Option<P>,
}

impl<P> Acks<P> {
    /// With the task that sends them, which ends when all of these are dropped.
    pub(crate) fn new(client: Client) -> (Self, impl Future<Output = ()>) {
        let (sender, settled) = mpsc::unbounded_channel();
        let kept = Arc::<Kept>::default();
        let sending = run(client, settled, Arc::clone(&kept));
        (Self(Arc::new(Inner { kept, settled: sender })), sending)
    }

    /// Keeps the message that is acked to `reply`, until it is released by what this returns.
    pub(crate) fn keep(&self, reply: Subject) -> usize {
        self.0.kept.replies().insert(reply)
    }

    /// Keeps it no longer, and returns where it is acked.
    pub(crate) fn release(&self, kept: usize) -> Subject {
        self.0.kept.replies().remove(kept)
    }

    /// The message that is acked to `reply` is settled.
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
    // Beside each other: a settled message does not wait for those that are kept.
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

#[cfg(test)]
impl<P> Acks<P> {
    /// Acks that nobody sends, and what is settled.
    pub(crate) fn unsent() -> (Self, mpsc::UnboundedReceiver<Settled<P>>) {
        let (sender, settled) = mpsc::unbounded_channel();
        (Self(Arc::new(Inner { kept: Arc::default(), settled: sender })), settled)
    }

    pub(crate) fn kept(&self) -> usize {
        self.0.kept.replies().len()
    }
}
