//! The dedicated reader of one Subscription. It delivers what waits in the stream, and takes the Subscription's position
//! through its steps, until the Subscription is live again. Only the dispatcher that owns the Subscription has one.

use std::time::Duration;

use hookwright_core::position::{Position, Range, Seen, Step, Waits};
use hookwright_runtime::logging::chain;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::catch_up::stream::SourceStream;
use crate::catch_up::window::Window;
use crate::catch_up::work::{Growth, Next, Probes, ReadError, Reader, Serving, Work};
use crate::config::index::Lookup;
use crate::position::cell::Known;
use crate::position::cursors::{self, Kept};
use crate::position::forward::bring_forward;

/// How often the cursor is written while it moves.
const WRITE: Duration = Duration::from_secs(1);
/// The wait before a look at what may have changed, and after a failure.
const LOOK: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait before a look at a stream in which nothing comes, though the range ends later.
const QUIET: Duration = Duration::from_secs(5);
/// How often the stream is looked at while nothing of it may be read.
const IDLE: Duration = Duration::from_secs(30);

impl Reader {
    /// Reads until the Subscription is live or no longer this dispatcher's, or until it is stopped.
    pub(crate) async fn run(mut self) {
        let mut work = None;
        loop {
            let next = match self.go_on(&mut work).await {
                Ok(next) => next,
                Err(failure) => {
                    if self.complaints.now() {
                        let error = chain(&failure);
                        warn!(subscription_uid = %self.uid(), error, "a dedicated reader can't go on; retrying");
                    }
                    self.stop.run_until_cancelled(sleep(RETRY)).await;
                    Next::Again
                }
            };
            match next {
                Next::Again => {}
                Next::Room => self.look(work.as_mut(), true).await,
                Next::Look => self.look(work.as_mut(), false).await,
                Next::Ends => break,
            }
        }
        if let Some(lane) = self.parts.deliverer.lanes.known(self.uid()) {
            lane.widen(1);
        }
        // A cursor of the new stream would say that what waited in the former one was counted.
        let known = self.cell.known().position;
        let has_left = |work: &Work| {
            let created = work.kept.cursor.stream_created;
            known.as_ref().is_none_or(|position| position.left.is_none() && position.stream_created == created)
        };
        if let Some(work) = work.as_mut().filter(|work| has_left(work))
            && let Err(failure) = self.write_cursor(work).await
        {
            debug!(error = chain(&failure), "can't write a cursor at the end");
        }
    }

    /// Does what is next.
    async fn go_on(&mut self, work: &mut Option<Work>) -> Result<Next, ReadError> {
        if self.stop.is_cancelled() || !self.parts.slots.owns(self.uid()) || self.cell.is_live() {
            return Ok(Next::Ends);
        }
        let Known { position: Some(position), revision, removed, .. } = self.cell.known() else {
            return Ok(Next::Look);
        };
        let version = self.parts.deliverer.index.version();
        let serving = match self.parts.deliverer.index.lookup(self.uid()) {
            Lookup::Serving(subscription, producer) => Serving { version, subscription, producer },
            Lookup::Deleted => {
                self.parts.positions.remove(&self.cell, revision).await?;
                return Ok(Next::Look);
            }
            Lookup::Barred(_) | Lookup::Absent { .. } => return Ok(Next::Look),
        };
        if removed {
            self.parts.positions.restore(&self.cell, &position).await;
            return Ok(Next::Again);
        }
        let work = match work {
            Some(work) if work.is_of(&serving.producer) => work,
            _ => work.insert(self.open(&serving).await?),
        };
        if position.stream_created > serving.producer.record.stream.created {
            // The Producer's record is about to follow.
            return Ok(Next::Look);
        }
        if position.stream_created < serving.producer.record.stream.created || position.left.is_some() {
            return self.leave_stream(work, &position, revision).await;
        }
        if work.state.created != position.stream_created {
            // The operator will find the stream replaced.
            work.state = work.stream.state().await?;
            return Ok(Next::Look);
        }
        work.window.take();
        self.write_cursor_if_due(work).await?;
        let now = self.parts.deliverer.clock.now();
        let held_back = self.parts.deliverer.held_back(&serving.subscription).is_some();
        if held_back || position.waits.is_some() {
            self.end_turn(work);
        }
        match position.waits {
            Some(Waits { until: Some(until), .. }) if now < until => {}
            Some(Waits { breaker: true, .. }) if !held_back => {
                return self.probe(work, &serving, (&position, revision)).await;
            }
            Some(waits) if !held_back => return self.forward(&position, revision, waits.since).await,
            _ => {}
        }
        self.probes = Probes::default();
        let flows = !held_back && position.waits.is_none();
        self.step(work, &serving, (&position, revision), flows).await
    }

    /// Takes the next step of the position.
    async fn step(
        &mut self,
        work: &mut Work,
        serving: &Serving,
        (position, revision): (&Position, u64),
        flows: bool,
    ) -> Result<Next, ReadError> {
        work.pass_over(position, &serving.subscription, self.parts.deliverer.clock.now());
        let lane = self.parts.deliverer.lanes.of(self.uid(), &serving.subscription.tenant);
        // While it is behind, the other dispatchers' lanes have nothing under way.
        lane.widen(if position.is_behind() { self.parts.slots.live() } else { 1 });
        // A lane that takes one delivery at a time gives back all others.
        let waits = work.window.is_under_way() && lane.is_stuck();
        let room = if waits { 0 } else { work.window.room() };
        if flows && let Some(sequence) = work.window.again() {
            if room == 0 {
                return Ok(Next::Room);
            }
            if !self.has_turn(work, serving, position) {
                return Ok(Next::Look);
            }
            return self.read_again(work, serving, sequence).await;
        }
        if !flows {
            self.look_for_oldest(work, position).await?;
        }
        let mut changed = position.clone();
        let mut seen = Seen {
            next: work.kept.cursor.next,
            may_read: flows,
            last: work.state.last,
            ahead: work.growth.ahead,
            all_loaded: self.all_loaded(position, revision).await?,
            floor: 0,
        };
        let mut step = changed.next(&seen);
        let range = position.ranges.first();
        // Whether the stream has still to come to the end of the range. That may take long.
        let is_short = range.and_then(|range| range.until).is_some_and(|until| seen.next <= until);
        let wait = match range {
            Some(Range { to: None, .. }) if !flows => IDLE,
            _ if is_short => work.patience,
            _ => LOOK,
        };
        if step == Step::Store || step == Step::Wait && work.looked.elapsed() >= wait {
            self.ask_leaders(work, serving, is_short, &mut seen).await?;
            changed.clone_from(position);
            step = changed.next(&seen);
        }
        if !matches!(step, Step::Read { .. }) && !work.window.is_under_way() {
            self.end_turn(work);
        }
        match step {
            Step::Live => Ok(Next::Look),
            Step::Read { .. } if room == 0 => Ok(Next::Room),
            Step::Read { .. } if !self.has_turn(work, serving, position) => Ok(Next::Look),
            Step::Read { from, upto } => self.read(work, serving, (from, upto), (room, room)).await,
            // The cursor of a range that is gone names nothing that is under way.
            Step::Store if changed.ranges.len() < position.ranges.len() && !work.window.is_idle() => Ok(Next::Look),
            Step::Store => self.store(work, changed, revision).await,
            Step::Wait => Ok(Next::Look),
        }
    }

    /// Whether there is more to read, or all is done, is judged by what the leaders say now. The more rarely they are
    /// asked, the longer nothing comes in a stream that is too `short` for the range.
    async fn ask_leaders(
        &self,
        work: &mut Work,
        serving: &Serving,
        short: bool,
        seen: &mut Seen,
    ) -> Result<(), ReadError> {
        let last = work.state.last;
        work.look(work.stream.state().await?);
        (seen.last, seen.ahead) = (work.state.last, work.growth.ahead);
        let is_quiet = short && seen.last == last;
        work.patience = if is_quiet { (work.patience * 2).min(QUIET) } else { LOOK };
        if !short {
            let shared = work.stream.shared(&serving.producer.record.consumer).await?;
            seen.floor = if shared.is_idle { seen.last.max(shared.floor) } else { shared.floor };
        }
        Ok(())
    }

    /// While nothing is sent, the leader is asked for the oldest event that waits, so that the cursor can say when it was
    /// published.
    async fn look_for_oldest(&self, work: &mut Work, position: &Position) -> Result<(), ReadError> {
        let Some(range) = position.ranges.first() else { return Ok(()) };
        let (from, last) = (work.kept.cursor.next.max(range.from), work.state.last);
        if work.kept.cursor.oldest.is_some() || !work.window.is_idle() || from > last || work.looked_for == last {
            return Ok(());
        }
        work.looked_for = last;
        work.kept.cursor.oldest = work.stream.at_leader(from).await?.map(|found| found.time);
        Ok(())
    }

    /// Whether all live dispatchers have loaded this position, if anything depends on that. The leader says which bucket it
    /// is in: one that was made anew counts its revisions anew.
    async fn all_loaded(&self, position: &Position, revision: u64) -> Result<bool, ReadError> {
        let Some(Range { to: Some(_), until: None, .. }) = position.ranges.first() else { return Ok(false) };
        // The leader is asked only once the dispatchers agree: a look may come several times a second.
        let Some(loaded) = self.parts.slots.loaded_by_all(revision) else { return Ok(false) };
        Ok(self.parts.positions.created().await? == loaded)
    }

    /// Whether the reader may send: only so many do at a time.
    fn has_turn(&mut self, work: &mut Work, serving: &Serving, position: &Position) -> bool {
        let now = self.parts.deliverer.clock.now();
        let has = self.turn.ask(serving.subscription.namespace(), position.since.unwrap_or(now), now);
        work.kept.cursor.queued = !has;
        has
    }

    /// Has nothing to send now.
    fn end_turn(&mut self, work: &mut Work) {
        self.turn.leave();
        work.kept.cursor.queued = false;
    }

    pub(super) async fn store(&self, work: &mut Work, changed: Position, revision: u64) -> Result<Next, ReadError> {
        // A range goes only after the cursor says durably what it has come to.
        self.write_cursor(work).await?;
        if !self.parts.slots.owns(self.uid()) {
            return Ok(Next::Ends);
        }
        let ranges = changed.ranges.clone();
        if self.parts.positions.write_or_learn(&self.cell, changed, revision).await? {
            info!(subscription_uid = %self.uid(), ?ranges, "the position of a Subscription has changed");
        }
        Ok(Next::Again)
    }

    /// Brings forward what is parked, once the Subscription's events flow again. What is parked while that is listed still
    /// finds a position that waits, and says no more. So it is listed once more after the position has changed.
    async fn forward(&self, position: &Position, revision: u64, since: Timestamp) -> Result<Next, ReadError> {
        if !self.bring_forward(since).await? {
            return Ok(Next::Ends);
        }
        let flowing = Position { waits: None, ..position.clone() };
        if self.parts.positions.write_or_learn(&self.cell, flowing, revision).await?
            && !self.bring_forward(self.parts.deliverer.clock.now()).await?
        {
            return Ok(Next::Ends);
        }
        Ok(Next::Again)
    }

    /// Returns whether all that is parked was brought forward. If this dispatcher stops, the next owner does what is left.
    async fn bring_forward(&self, since: Timestamp) -> Result<bool, ReadError> {
        let now = self.parts.deliverer.clock.now();
        let brought = bring_forward(&self.parts.nats, self.uid(), now, since.min(now));
        let Some(brought) = self.stop.run_until_cancelled(brought).await else { return Ok(false) };
        let brought = brought?;
        info!(subscription_uid = %self.uid(), brought, "brought parked deliveries forward");
        Ok(true)
    }

    /// Ends what is left of another stream's ranges: their events are gone.
    async fn leave_stream(&self, work: &mut Work, position: &Position, revision: u64) -> Result<Next, ReadError> {
        let mut moved = position.moved_to(work.kept.cursor.stream_created);
        if let Some(left) = moved.left.take() {
            let (found, _) = cursors::found(&self.parts.nats, self.uid()).await?;
            work.kept.cursor.leave(&left, found.as_ref(), self.parts.deliverer.clock.now());
        }
        self.store(work, moved, revision).await
    }

    async fn open(&self, serving: &Serving) -> Result<Work, ReadError> {
        let Serving { producer, subscription, .. } = serving;
        let stream = &producer.record.stream;
        let mut source = SourceStream { nats: self.parts.nats.clone(), name: stream.name.clone(), filters: Vec::new() };
        source.filters = source.shared(&producer.record.consumer).await?.filters;
        let (state, mut kept) =
            (source.state().await?, cursors::read(&self.parts.nats, self.uid(), stream.created).await?);
        if let Some(last) = kept.cursor.last_event.filter(|_| state.created == stream.created) {
            let next = source.recheck(kept.cursor.next.saturating_sub(1), last, &state).await? + 1;
            kept.cursor.next = next;
            kept.cursor.under_way.retain(|sequence| *sequence < next);
        }
        let shelf = self.parts.blocks.of(producer, &source.filters);
        let growth = Growth { since: Instant::now(), last: state.last, ahead: 0 };
        let window = Window::new(kept.cursor.under_way.iter().copied());
        let written = (kept.cursor.clone(), Instant::now());
        let budget = self.parts.budget.of_reader(&subscription.tenant.behind);
        let (looked, looked_for, patience) = (Instant::now(), 0, LOOK);
        Ok(Work { stream: source, budget, shelf, window, kept, written, state, looked, looked_for, growth, patience })
    }

    async fn write_cursor_if_due(&self, work: &mut Work) -> Result<(), ReadError> {
        if work.written.1.elapsed() >= WRITE { self.write_cursor(work).await } else { Ok(()) }
    }

    /// Writes the cursor, if it has changed.
    async fn write_cursor(&self, work: &mut Work) -> Result<(), ReadError> {
        work.window.take();
        work.kept.cursor.under_way = work.window.unsettled();
        (work.kept.cursor.last, work.kept.cursor.last_event) = (work.state.last, work.state.last_event);
        match work.window.oldest() {
            Some(oldest) => work.kept.cursor.oldest = Some(oldest),
            // Nothing waits.
            None if work.kept.cursor.next > work.state.last => work.kept.cursor.oldest = None,
            None => {}
        }
        if work.written.0 == work.kept.cursor {
            work.written.1 = Instant::now();
            return Ok(());
        }
        let Kept { cursor, revision } = &work.kept;
        match cursors::write(&self.parts.nats, self.uid(), cursor, *revision).await? {
            Some(revision) => {
                work.kept.revision = revision;
                work.written = (work.kept.cursor.clone(), Instant::now());
            }
            // The write before had succeeded without an answer, or another dispatcher is the owner now.
            None => {
                work.kept.revision = cursors::read(&self.parts.nats, self.uid(), cursor.stream_created).await?.revision
            }
        }
        Ok(())
    }

    /// Waits until something may have changed; for `room` in the window, if there is more to read.
    async fn look(&self, work: Option<&mut Work>, room: bool) {
        let mut slots = self.parts.slots.changes();
        let settled = async {
            match work {
                Some(work) if work.window.is_under_way() => work.window.wait(room).await,
                _ => std::future::pending().await,
            }
        };
        let changed = async {
            tokio::select! {
                () = self.cell.changed() => {}
                _ = slots.changed() => {}
                () = settled => {}
            }
        };
        let _ = self.stop.run_until_cancelled(timeout(LOOK, changed)).await;
    }
}
