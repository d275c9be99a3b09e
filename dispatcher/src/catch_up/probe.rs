//! Probes of an endpoint whose breaker is open: one delivery at a time, ever more rarely. All dispatchers together send
//! one probe, because only the owner of the Subscription does.

use hookwright_core::delivery::backoff::Jitter;
use hookwright_core::delivery::breaker::probe_after;
use hookwright_core::position::{Position, Seen, Step};
use tokio::time::Instant;

use crate::catch_up::hand_out::BATCH;
use crate::catch_up::work::{Next, ReadError, Reader, Serving, Work};
use crate::position::forward::bring_probe;

/// How many events that failed as probes are put aside. Then they have their turns again, one after the other: an event that
/// the receiver never takes must not be the only probe.
const ASIDE: usize = 256;

impl Reader {
    /// Sends a probe if it is due: the next event that waits in the stream or, if none does, a parked delivery. If it
    /// fails, nothing is stored, and another one is the next probe.
    pub(super) async fn probe(
        &mut self,
        work: &mut Work,
        serving: &Serving,
        (position, revision): (&Position, u64),
    ) -> Result<Next, ReadError> {
        let now = Instant::now();
        let known = std::mem::replace(&mut self.probes.revision, serving.subscription.revision);
        if known != 0 && known != serving.subscription.revision {
            // After an edit, or a request to resume, the endpoint is probed at once.
            (self.probes.failed, self.probes.due) = (0, Some(now));
        }
        let due = *self.probes.due.get_or_insert_with(|| now + probe_after(0, Jitter::new(rand::random())));
        if work.window.is_under_way() || now < due {
            return Ok(Next::Look);
        }
        work.look(work.stream.state().await?);
        work.pass_over(position, &serving.subscription, self.parts.deliverer.clock.now());
        let mut changed = position.clone();
        let next = work.kept.cursor.next;
        let seen = Seen { next, may_read: true, last: work.state.last, ahead: 0, all_loaded: false, floor: 0 };
        match (changed.next(&seen), work.window.again_after(self.probes.last)) {
            (Step::Store, _)
                if position.ranges.first().is_some_and(|range| !range.begun && range.from <= seen.last) =>
            {
                return self.store(work, changed, revision).await;
            }
            (Step::Read { from, upto }, _) if work.window.aside() < ASIDE => {
                let next = self.read(work, serving, (from, upto), (BATCH, 1)).await?;
                if !work.window.is_under_way() {
                    // The Subscription wants none of those events.
                    return Ok(next);
                }
            }
            (_, Some(sequence)) => {
                self.probes.last = sequence;
                let next = self.read_again(work, serving, sequence).await?;
                if !work.window.is_under_way() {
                    // The stream has dropped it, or the Subscription no longer wants it.
                    return Ok(next);
                }
            }
            _ => {
                // All have had their turn. A parked delivery has one, too, before it is the first one's again.
                self.probes.last = 0;
                let brought = bring_probe(&self.parts.nats, self.uid(), self.parts.deliverer.clock.now()).await?;
                if !brought && work.window.aside() > 0 {
                    return Ok(Next::Again);
                }
                if !brought {
                    // Nothing waits, so nothing has failed.
                    self.probes.due = Some(Instant::now() + probe_after(0, Jitter::new(rand::random())));
                    return Ok(Next::Look);
                }
            }
        }
        // While the fault is on our side, it says nothing about the endpoint.
        let ours = position.waits.is_some_and(|waits| waits.ours);
        self.probes.failed = if ours { 0 } else { self.probes.failed.saturating_add(1) };
        self.probes.due = Some(Instant::now() + probe_after(self.probes.failed, Jitter::new(rand::random())));
        Ok(Next::Look)
    }
}
