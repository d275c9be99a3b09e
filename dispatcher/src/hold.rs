//! Holding a message: kept by in-progress acks while work on any part of it goes on; it is acked when all parts are settled,
//! and never NAKed. Left alone it comes again after the consumer's `ack_wait`, here or at another dispatcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::Subject;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::acks::Acks;
use crate::budget::Share;
use crate::deliver::Slot;

/// The work on a message was given up before all of it was settled: this dispatcher may not go on. The message is not
/// acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abandoned;

/// A part of a message that is held. Dropped before it is settled, be it by a panic, it leaves the message abandoned.
pub(crate) struct Hold(Option<Arc<Held>>);

struct Held {
    acks: Acks,
    kept: usize,
    share: Share,
    abandoned: AtomicBool,
    _tracked: TaskTrackerToken,
}

impl Hold {
    /// All of the message that is acked to `reply`.
    pub(crate) fn new(acks: Acks, reply: Subject, share: Share, tracked: TaskTrackerToken) -> Self {
        let kept = acks.keep(reply);
        let abandoned = AtomicBool::new(false);
        Self(Some(Arc::new(Held { acks, kept, share, abandoned, _tracked: tracked })))
    }

    /// One more part.
    pub(crate) fn part(&self) -> Self {
        Self(self.0.clone())
    }

    /// This part is done or stored. With the last one the message is acked; the slot is free once the ack is on its way, as
    /// the slots of the others are at once: none is kept while another part goes on, which may take long.
    pub(crate) fn settled(mut self, slot: Option<Slot>) {
        self.end(slot);
    }

    fn end(&mut self, slot: Option<Slot>) {
        let Some(Held { acks, kept, share, abandoned, _tracked }) = self.0.take().and_then(Arc::into_inner) else {
            return;
        };
        let reply = acks.release(kept);
        if !abandoned.into_inner() {
            acks.settled(reply, share, slot);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(held) = &self.0 {
            held.abandoned.store(true, Ordering::Release);
        }
        self.end(None);
    }
}
