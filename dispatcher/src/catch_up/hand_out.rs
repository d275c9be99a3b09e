//! Reads some events and hands them out: each one that the Subscription wants goes into its lane, like a live one.

use std::sync::Arc;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::health::Waiting;
use hookwright_core::delivery::progress::Progress;
use hookwright_core::event::{Event, Reading, parse};
use hookwright_core::expression::Variables;
use hookwright_core::record::Validation;
use hookwright_core::select::filter::Verdict;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::warn;

use crate::ack::hold::{Abandoned, Hold};
use crate::catch_up::stream::Stored;
use crate::catch_up::work::{Next, ReadError, Reader, Serving, Work};
use crate::config::index::Producer;
use crate::deliver::delivery::{Delivery, Origin, Waited, id};
use crate::deliver::queued::Queued;
use crate::deliver::sift::Said;
use crate::limits::budget::Share;
use crate::panics;
use crate::parking::messages::{Published, StreamPosition};

/// The most events that are read at once.
pub(super) const BATCH: usize = 256;

impl Reader {
    /// Reads at most `read` messages from `from` on, at most up to `upto`, and hands out at most `most` events of them.
    pub(super) async fn read(
        &mut self,
        work: &mut Work,
        serving: &Serving,
        (from, upto): (u64, Option<u64>),
        (read, most): (usize, usize),
    ) -> Result<Next, ReadError> {
        let read = u32::try_from(read.min(BATCH)).unwrap_or(1);
        let budget = self.parts.budgets.of(serving.subscription.namespace());
        let granted = self.stop.run_until_cancelled(budget.grant(read)).await;
        let Some(Some(mut grant)) = granted else { return Ok(Next::Ends) };
        let messages = self.fetch(work, from, (grant.events(), grant.bytes())).await?;
        let before = work.state;
        if !self.is_same(work, serving).await? {
            return Ok(Next::Look);
        }
        if !self.parts.slots.owns(self.uid()) {
            return Ok(Next::Ends);
        }
        let end = upto.map_or(u64::MAX, |upto| upto + 1);
        // A message proves that there is nothing before it, and an answer without one that there is nothing up to the end.
        let found = messages.first().map_or(before.last + 1, |message| message.sequence);
        work.missed(from, found.min(end), self.parts.deliverer.clock.now());
        if from < found {
            work.window.leave_out(from);
        }
        let (mut next, mut handed_out) = (found, 0);
        for message in messages {
            next = message.sequence;
            if next >= end || handed_out == most {
                break;
            }
            let share = grant.share(message.body.len());
            match self.hand_out(work, serving, message, share).await {
                Ok(wanted) => handed_out += usize::from(wanted),
                Err(Abandoned) => break,
            }
            next += 1;
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

    /// Looks at the stream and its shared consumer after something was read. If the stream is another one by now, those
    /// were not the events that wait. If the Producer has other subjects, there may be more.
    async fn is_same(&self, work: &mut Work, serving: &Serving) -> Result<bool, ReadError> {
        let (created, state) = (work.state.created, work.stream.state().await?);
        let filters = work.stream.shared(&serving.producer.record.consumer).await?.filters;
        work.look(state);
        let is_same = state.created == created && filters == work.stream.filters;
        work.stream.filters = filters;
        Ok(is_same)
    }

    /// Puts an event into the Subscription's lane, if the Subscription wants it. Returns whether it does.
    async fn hand_out(
        &self,
        work: &mut Work,
        serving: &Serving,
        message: Stored,
        share: Share,
    ) -> Result<bool, Abandoned> {
        let sequence = message.sequence;
        let Some((published, event)) = self.wanted(work, serving, message).await? else {
            work.window.leave_out(sequence);
            return Ok(false);
        };
        work.window.hand_out(sequence, published.event.published);
        self.cell.set_probe(sequence);
        let queued = Queued {
            deliverer: Arc::clone(&self.parts.deliverer),
            subscription: Arc::clone(&serving.subscription),
            published: Arc::new(published),
            event: Arc::new(event),
            received: Instant::now(),
            version: serving.version,
            parked: None,
            place: None,
            hold: Hold::reported(work.window.reports(), sequence, share, self.parts.tracker.token()),
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
        if self.connection.is_to_change() {
            self.connection.change(&work.stream.name).await;
        }
        if work.state.direct {
            let nats = self.connection.nats();
            match work.stream.batch(&nats, from, events, bytes).await {
                Ok(messages) if !messages.is_empty() => return Ok(messages),
                // A message whose headers nobody can read cuts the connection. The leader's answer has them encoded.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(work.stream.at_leader(from).await?.into_iter().collect())
    }

    /// The event, if the Subscription wants it. An event that can't be read was buried when it came.
    async fn wanted(
        &self,
        work: &Work,
        serving: &Serving,
        message: Stored,
    ) -> Result<Option<(Published, Event)>, Abandoned> {
        let Serving { subscription, producer, .. } = serving;
        let Some(headers) = message.headers.filter(|_| work.stream.wants(&message.subject)) else { return Ok(None) };
        let position =
            StreamPosition { stream: work.stream.name.clone(), sequence: message.sequence, published: message.time };
        let created = producer.record.stream.created;
        let mut published = Published::of(message.subject, headers, message.body, position, created);
        if !published.is_event() {
            return Ok(None);
        }
        let reading = Reading { rule: &producer.record.event_type, source: &producer.source, known_type: None };
        let read = panics::caught(|| published.with_message(|message| parse(message, reading)));
        let Ok(Ok(event)) = read else {
            warn!(
                subscription = subscription.name,
                sequence = message.sequence,
                "left out an event that can't be read"
            );
            return Ok(None);
        };
        published.event.event_type.clone_from(&event.event_type);
        let deliverer = &self.parts.deliverer;
        let major = || deliverer.index.major(&producer.record.uid, &event.event_type, &Variables::of(&event));
        if !subscription.selects(&event.event_type, major) {
            return Ok(None);
        }
        match deliverer.evaluate(subscription, &event).await? {
            Said::Verdict(verdict) => {
                deliverer.filtered(subscription, &event, verdict);
                if verdict != Verdict::Matches {
                    return Ok(None);
                }
            }
            Said::Forbidden(forbidden) => {
                deliverer.drop_forbidden(subscription, forbidden, Waiting::default());
                return Ok(None);
            }
            Said::TooExpensive => {
                let reason = DeadLetterReason::FilterTooExpensive;
                deliverer.bury(&given_up(serving, published), reason, None).await;
                return Ok(None);
            }
        }
        if producer.record.validation == Validation::Enforce
            && let Some((reason, detail)) = self.at_fault(producer, &event).await?
        {
            self.parts.deliverer.bury(&given_up(serving, published), reason, Some(&detail)).await;
            return Ok(None);
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
fn given_up(serving: &Serving, published: Published) -> Delivery {
    let subscription = Arc::clone(&serving.subscription);
    Delivery {
        id: id(&subscription, &published),
        subscription,
        published: Arc::new(published),
        progress: Progress::default(),
        waited: Waited::No,
        origin: Origin::Dedicated,
        received: Instant::now(),
        version: serving.version,
    }
}

impl Work {
    /// Counts what the stream has dropped of the sequences from `from` to before `found`.
    fn missed(&mut self, from: u64, found: u64, now: Timestamp) {
        let end = found.min(self.state.first);
        if from < end {
            self.kept.cursor.miss(from, end - 1, now);
        }
    }
}
