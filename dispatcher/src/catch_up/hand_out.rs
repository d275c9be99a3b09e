//! Reads some events and hands them out: each one that the Subscription wants goes into its lane, like a live one.

use std::sync::Arc;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::health::Waiting;
use hookwright_core::delivery::progress::Progress;
use hookwright_core::event::Event;
use hookwright_core::expression::Variables;
use hookwright_core::record::Validation;
use hookwright_core::select::filter::Verdict;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::ack::hold::{Abandoned, Hold};
use crate::catch_up::block::{Block, Entry, Found};
use crate::catch_up::blocks::EVENTS;
use crate::catch_up::memory::Reserved;
use crate::catch_up::stream::Stored;
use crate::catch_up::work::{Next, ReadError, Reader, Serving, Work};
use crate::config::index::Producer;
use crate::deliver::delivery::{Delivery, Origin, Waited, id};
use crate::deliver::queued::Queued;
use crate::deliver::reading::Unreadable;
use crate::deliver::sift::Said;
use crate::limits::budget::Grant;
use crate::panics;
use crate::parking::messages::Published;

/// The most messages that are looked through at once.
pub(super) const BATCH: usize = 256;

impl Reader {
    /// Looks through at most `read` messages from `from` on, at most up to `upto`, and hands out at most `most` events of
    /// them.
    pub(super) async fn read(
        &mut self,
        work: &mut Work,
        serving: &Serving,
        (from, upto): (u64, Option<u64>),
        (read, most): (usize, usize),
    ) -> Result<Next, ReadError> {
        let read = read.min(BATCH);
        let granted = self.stop.run_until_cancelled(work.budget.grant(u32::try_from(read).unwrap_or(1))).await;
        let Some(Some(mut grant)) = granted else { return Ok(Next::Ends) };
        // If many have come back, the next ones lie beside this one.
        let alone = read == 1 && work.window.aside() < 2;
        let Some(block) = self.block(work, serving, from, (grant.events(), grant.bytes()), alone).await? else {
            return Ok(Next::Look);
        };
        if !self.parts.slots.owns(self.uid()) {
            return Ok(Next::Ends);
        }
        let end = upto.map_or(u64::MAX, |upto| upto.saturating_add(1));
        let entries = block.from(from);
        work.missed(from, block.dropped_before(from).min(end), self.parts.deliverer.clock.now());
        if entries.first().is_none_or(|entry| from < entry.sequence) {
            work.window.leave_out(from);
        }
        let (mut next, mut handed_out) = (block.end, 0);
        for (looked, entry) in entries.iter().enumerate() {
            let full = grant.events() == 0 || looked > 0 && entry.size > grant.bytes();
            if entry.sequence >= end || looked == read || handed_out == most || full {
                next = entry.sequence;
                break;
            }
            match self.hand_out(work, serving, entry, &mut grant).await {
                Ok(wanted) => handed_out += usize::from(wanted),
                Err(Abandoned) => {
                    next = entry.sequence;
                    break;
                }
            }
        }
        work.kept.cursor.next = work.kept.cursor.next.max(next.min(end));
        Ok(Next::Again)
    }

    /// Reads an event again whose delivery came back.
    pub(super) async fn read_again(
        &mut self,
        work: &mut Work,
        serving: &Serving,
        sequence: u64,
    ) -> Result<Next, ReadError> {
        self.read(work, serving, (sequence, Some(sequence)), (1, 1)).await
    }

    /// The block of the stream that has this sequence, which another reader may have read. If it is read for this reader
    /// `alone`, it has at most so many events and bytes. `None` if the stream or its subjects are others by now.
    async fn block(
        &mut self,
        work: &mut Work,
        serving: &Serving,
        from: u64,
        granted: (usize, usize),
        alone: bool,
    ) -> Result<Option<Arc<Block>>, ReadError> {
        if !work.shelf.is_of(&serving.producer, &work.stream.filters) {
            work.shelf = self.parts.blocks.of(&serving.producer, &work.stream.filters);
        }
        let (shelf, parts) = (Arc::clone(&work.shelf), Arc::clone(&self.parts));
        if let Some(found) = shelf.find(from) {
            parts.deliverer.metrics.behind_read("Memory");
            return Ok(Some(found));
        }
        if alone {
            parts.deliverer.metrics.behind_read("Single");
            return Ok(self.read_block(work, serving, from, granted, None).await?.map(Arc::new));
        }
        let mut source = "Memory";
        let block = shelf.find_or_read(&parts.blocks, from, |reserved| {
            source = "Stream";
            self.read_block(work, serving, from, granted, reserved)
        });
        let block = block.await?;
        parts.deliverer.metrics.behind_read(source);
        Ok(block)
    }

    /// Reads a block from the stream. Then looks at the stream and its shared consumer: if the stream is another one by now,
    /// those were not the events that wait. If the Producer has other subjects, there may be more.
    async fn read_block(
        &mut self,
        work: &mut Work,
        serving: &Serving,
        from: u64,
        (events, bytes): (usize, usize),
        reserved: Option<Reserved>,
    ) -> Result<Option<Block>, ReadError> {
        let most = reserved.as_ref().map_or((events, bytes), |reserved| (EVENTS, reserved.bytes()));
        let messages = self.fetch(work, from, most).await?;
        let (before, state) = (work.state, work.stream.state().await?);
        let filters = work.stream.shared(&serving.producer.record.consumer).await?.filters;
        work.look(state);
        let is_same = state.created == before.created && filters == work.stream.filters;
        work.stream.filters = filters;
        // An answer without a message proves that there is nothing up to what was the end before.
        let end = messages.last().map_or(before.last + 1, |message| message.sequence + 1);
        let read = || Block::read(&serving.producer, &work.stream.filters, messages, (state.first, end), reserved);
        Ok(is_same.then(read))
    }

    /// Puts an event into the Subscription's lane, if the Subscription wants it. Returns whether it does.
    async fn hand_out(
        &self,
        work: &mut Work,
        serving: &Serving,
        entry: &Entry,
        grant: &mut Grant,
    ) -> Result<bool, Abandoned> {
        let Some((published, event)) = self.wanted(serving, entry).await? else {
            work.window.leave_out(entry.sequence);
            return Ok(false);
        };
        work.window.hand_out(entry.sequence, published.event.published);
        self.cell.set_probe(entry.sequence);
        let share = grant.share(entry.size);
        let queued = Queued {
            deliverer: Arc::clone(&self.parts.deliverer),
            subscription: Arc::clone(&serving.subscription),
            published: Arc::clone(published),
            event: Arc::clone(event),
            received: Instant::now(),
            version: serving.version,
            parked: None,
            place: None,
            hold: Hold::reported(work.window.reports(), entry.sequence, share, self.parts.tracker.token()),
        };
        queued.enter();
        Ok(true)
    }

    /// Reads some messages, from a replica if that serves. Nothing is returned only if the leader has nothing.
    async fn fetch(
        &mut self,
        work: &Work,
        from: u64,
        (events, bytes): (usize, usize),
    ) -> Result<Vec<Stored>, ReadError> {
        let (connections, name) = (&self.parts.connections, &work.stream.name);
        if work.state.direct && !connections.unreadable.has(name) {
            match work.stream.batch(&connections.dedicated(), from, events, bytes).await {
                Ok(messages) if !messages.is_empty() => return Ok(messages),
                // A message whose headers nobody can read cuts the connection. The leader's answer has them encoded.
                Ok(_) | Err(_) => {}
            }
        }
        let message = work.stream.at_leader(from).await?;
        if message.as_ref().is_some_and(|message| message.headers.is_none()) {
            connections.unreadable.note(name);
        }
        Ok(message.into_iter().collect())
    }

    /// The event, if the Subscription wants it. Whether it wants one that can't be read is not known: that is given up.
    async fn wanted<'e>(
        &self,
        serving: &Serving,
        entry: &'e Entry,
    ) -> Result<Option<(&'e Arc<Published>, &'e Arc<Event>)>, Abandoned> {
        let Serving { subscription, producer, .. } = serving;
        let deliverer = &self.parts.deliverer;
        let give_up = async |published: &Arc<Published>, reason, detail: Option<&str>| {
            deliverer.bury(&given_up(serving, Arc::clone(published)), reason, detail).await;
            Ok(None)
        };
        let (published, event) = match &entry.found {
            Found::Event(published, event) => (published, event),
            Found::Unreadable(published, Unreadable { reason, detail }) => {
                return give_up(published, *reason, Some(detail)).await;
            }
            Found::Nothing => return Ok(None),
        };
        let major = || deliverer.index.major(&producer.record.uid, &Variables::of(event));
        match panics::caught(|| subscription.selects(&event.event_type, major)) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(panic) => {
                let Unreadable { reason, detail } = Unreadable::panicked(&panic);
                return give_up(published, reason, Some(&detail)).await;
            }
        }
        match deliverer.evaluate(subscription, event).await? {
            Said::Verdict(verdict) => {
                deliverer.filtered(subscription, event, verdict);
                if verdict != Verdict::Matches {
                    return Ok(None);
                }
            }
            Said::Forbidden(forbidden) => {
                deliverer.drop_forbidden(subscription, forbidden, Waiting::default());
                return Ok(None);
            }
            Said::TooExpensive => return give_up(published, DeadLetterReason::FilterTooExpensive, None).await,
        }
        if producer.record.validation == Validation::Enforce
            && let Some((reason, detail)) = self.at_fault(producer, event).await?
        {
            return give_up(published, reason, Some(&detail)).await;
        }
        Ok(Some((published, event)))
    }

    /// Why the event is not valid by the schemas that its Producer has now, if it is not. Others may have counted when it came.
    async fn at_fault(
        &self,
        producer: &Producer,
        event: &Event,
    ) -> Result<Option<(DeadLetterReason, String)>, Abandoned> {
        let deliverer = &self.parts.deliverer;
        let found = match deliverer.validator.violation(producer, event).await {
            Ok(None) => return Ok(None),
            Ok(Some(violation)) => (DeadLetterReason::SchemaViolation, violation.to_string()),
            Err(panic) => (DeadLetterReason::Internal, format!("validating the event panicked: {panic}")),
        };
        if deliverer.is_current(producer) { Ok(Some(found)) } else { Err(Abandoned) }
    }
}

/// A delivery that is given up without an attempt.
fn given_up(serving: &Serving, published: Arc<Published>) -> Delivery {
    let subscription = Arc::clone(&serving.subscription);
    Delivery {
        id: id(&subscription, &published),
        subscription,
        published,
        progress: Progress::default(),
        waited: Waited::No,
        origin: Origin::Dedicated,
        received: Instant::now(),
        version: serving.version,
    }
}

impl Work {
    /// Counts the sequences from `from` to before `end`, which the stream has dropped.
    fn missed(&mut self, from: u64, end: u64, now: Timestamp) {
        if from < end {
            self.kept.cursor.miss(from, end - 1, now);
        }
    }
}
