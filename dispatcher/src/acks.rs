//! Acks of settled messages, sent some at a time: each write to NATS is two system calls, one of them the server's, and
//! costs more than all else about an ack.

use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::Acker;
use tokio::sync::mpsc;
use tokio::task::yield_now;

use crate::budget::Share;
use crate::hold::acknowledge;

/// So many go at a time.
const MOST: usize = 256;

/// Where settled messages are handed over. Each keeps its share of the budget until its ack is on its way, so there are
/// never more than the budget allows.
#[derive(Clone)]
pub(crate) struct Acks(mpsc::UnboundedSender<Settled>);

struct Settled {
    acker: Acker,
    _share: Share,
}

impl Acks {
    /// With the task that sends them, which ends when all of these are dropped.
    pub(crate) fn new() -> (Self, impl Future<Output = ()>) {
        let (sender, settled) = mpsc::unbounded_channel();
        (Self(sender), send(settled))
    }

    /// The message is settled.
    pub(crate) fn settled(&self, acker: Acker, share: Share) {
        // The receiver lives as long as a sender.
        let _ = self.0.send(Settled { acker, _share: share });
    }
}

async fn send(mut settled: mpsc::UnboundedReceiver<Settled>) {
    let mut some = Vec::with_capacity(MOST);
    while settled.recv_many(&mut some, MOST).await > 0 {
        for Settled { acker, .. } in &some {
            acknowledge(acker, AckKind::Ack).await;
        }
        some.clear();
        yield_now().await;
    }
}
