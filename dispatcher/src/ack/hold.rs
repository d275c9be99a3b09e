//! Holds a message while work on any part of it goes on. In-progress acks keep the message. It is acked when all parts
//! are settled, and never NAKed. A message that is left alone comes again after the consumer's `ack_wait`, here or at
//! another dispatcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::Subject;
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::ack::batch::Acks;
use crate::limits::budget::{self, Share};

/// The work on a message was given up before all of it was settled, because this dispatcher may not go on. The message
/// is not acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abandoned;

/// An event that a dedicated reader has handed out is settled, or comes back without an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Back {
    pub(crate) sequence: u64,
    pub(crate) settled: bool,
}

/// A part of a held message. If it is dropped before it is settled, by a panic for example, the message is abandoned.
pub(crate) struct Hold<P>(Option<Arc<Held<P>>>);

struct Held<P> {
    source: Source<P>,
    share: Share,
    abandoned: AtomicBool,
    _tracked: TaskTrackerToken,
}

/// Where a message came from, which learns what became of it.
enum Source<P> {
    /// A consumer. The message is acked.
    Consumer { acks: Acks<P>, kept: usize },
    /// A dedicated reader.
    Reader { reports: mpsc::UnboundedSender<Back>, sequence: u64 },
}

impl<P> Hold<P> {
    /// Holds the message whose reply subject is `reply`, as one part.
    pub(crate) fn new(acks: Acks<P>, reply: Subject, share: Share, tracked: TaskTrackerToken) -> Self {
        let kept = acks.keep(reply);
        Self::of(Source::Consumer { acks, kept }, share, tracked)
    }

    /// Holds an event that a dedicated reader has handed out, as one part.
    pub(crate) fn reported(
        reports: mpsc::UnboundedSender<Back>,
        sequence: u64,
        share: Share,
        tracked: TaskTrackerToken,
    ) -> Self {
        Self::of(Source::Reader { reports, sequence }, share, tracked)
    }

    fn of(source: Source<P>, share: Share, tracked: TaskTrackerToken) -> Self {
        Self(Some(Arc::new(Held { source, share, abandoned: AtomicBool::new(false), _tracked: tracked })))
    }

    /// Whether a dedicated reader has handed the event out. Then a delivery that isn't attempted goes back to it.
    pub(crate) fn is_of_reader(&self) -> bool {
        self.0.as_ref().is_some_and(|held| matches!(held.source, Source::Reader { .. }))
    }

    /// Whether the dedicated reader that has handed the event out has ended. The next one hands it out again, so that it must
    /// not be attempted any more.
    pub(crate) fn is_forsaken(&self) -> bool {
        let is_closed = |held: &Held<P>| matches!(&held.source, Source::Reader { reports, .. } if reports.is_closed());
        self.0.as_deref().is_some_and(is_closed)
    }

    /// Counts the message for this Subscription, if it counts for nobody yet.
    pub(crate) fn charge(&self, to: &Arc<budget::Held>) {
        if let Some(held) = &self.0 {
            held.share.charge(to);
        }
    }

    /// One more part of the message.
    pub(crate) fn part(&self) -> Self {
        Self(self.0.clone())
    }

    /// Settles this part, or abandons it.
    pub(crate) fn ended(self, result: Result<Option<P>, Abandoned>) {
        match result {
            Ok(permit) => self.settled(permit),
            Err(Abandoned) => drop(self),
        }
    }

    /// Settles this part, which is done or stored. The last part acks the message, and its permit is free once the ack
    /// is on its way. The permits of the other parts are free at once, because the last part may take long.
    pub(crate) fn settled(mut self, permit: Option<P>) {
        self.end(permit);
    }

    fn end(&mut self, permit: Option<P>) {
        let Some(Held { source, share, abandoned, _tracked }) = self.0.take().and_then(Arc::into_inner) else {
            return;
        };
        let settled = !abandoned.into_inner();
        match source {
            Source::Consumer { acks, kept } => {
                let reply = acks.release(kept);
                if settled {
                    acks.settled(reply, share, permit);
                }
            }
            // A reader that has ended has no use for it: the event is read again.
            Source::Reader { reports, sequence } => drop(reports.send(Back { sequence, settled })),
        }
    }
}

impl<P> Drop for Hold<P> {
    fn drop(&mut self) {
        if let Some(held) = &self.0 {
            held.abandoned.store(true, Ordering::Release);
        }
        self.end(None);
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::limits::budget::Budget;

    #[tokio::test]
    async fn an_event_is_forsaken_once_its_reader_has_ended() {
        let (budget, tracker) = (Budget::new(1, 1, 1), TaskTracker::new());
        let (reports, reader) = mpsc::unbounded_channel();
        let share = budget.grant(1).await.unwrap().share(1);
        let hold: Hold<()> = Hold::reported(reports, 7, share, tracker.token());
        assert!(!hold.is_forsaken());
        drop(reader);
        assert!(hold.is_forsaken());
    }

    #[tokio::test]
    async fn a_message_is_acked_once_when_all_of_its_parts_are_settled() {
        let (acks, mut settled) = Acks::<()>::unsent();
        let (budget, tracker) = (Budget::new(1, 1, 1), TaskTracker::new());
        tracker.close();
        for (dropped, acked) in [(None, true), (Some(0), false), (Some(1), false), (Some(2), false)] {
            let share = budget.grant(1).await.unwrap().share(1);
            let hold = Hold::new(acks.clone(), "reply".into(), share, tracker.token());
            let mut parts: Vec<Hold<()>> = vec![hold.part(), hold.part(), hold];
            if let Some(dropped) = dropped {
                drop(parts.remove(dropped));
            }
            while let Some(part) = parts.pop() {
                assert!(settled.try_recv().is_err() && !tracker.is_empty() && acks.kept() == 1);
                part.settled(None);
            }
            assert_eq!(settled.try_recv().is_ok(), acked, "{dropped:?}");
            assert!(settled.try_recv().is_err() && tracker.is_empty() && acks.kept() == 0);
        }
    }
}
