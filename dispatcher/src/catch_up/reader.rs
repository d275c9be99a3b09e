//! The dedicated reader of one Subscription. It delivers what waits in the stream, and takes the Subscription's position
//! through its steps, until the Subscription is live again. Only the dispatcher that owns the Subscription has one.

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::position::{Cursor, Position, Seen, Step, Waits};
use hookwright_core::select::index::Matcher;
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::nats::Nats;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use self::hand_out::BATCH;
use self::probe::Probes;
use crate::catch_up::slots::Slots;
use crate::catch_up::stream::{SourceStream, State, StreamError};
use crate::catch_up::window::Window;
use crate::config::index::{Lookup, Producer};
use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::intake::connections::{Connection, Connections};
use crate::limits::budget::Budget;
use crate::position::cell::{Known, PositionCell};
use crate::position::cursors::{self, Kept};
use crate::position::forward::{ForwardError, bring_forward};
use crate::position::positions::{PositionError, Positions};

mod hand_out;
mod probe;

/// How often the cursor is written while it moves.
const WRITE: Duration = Duration::from_secs(1);
/// The wait before a look at what may have changed, and after a failure.
const LOOK: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(1);
/// A range is closed as far ahead of the last sequence as the stream grows in this time. Until then all dispatchers know
/// of it.
const AHEAD: Duration = Duration::from_secs(4);

/// Why a reader could not go on. It tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// The parts that all dedicated readers share.
pub(crate) struct Parts {
    pub(crate) nats: Nats,
    pub(crate) positions: Arc<Positions>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) deliverer: Arc<Deliverer>,
    pub(crate) connections: Arc<Connections>,
    /// Limits the events that dedicated readers hold.
    pub(crate) budget: Budget,
    pub(crate) tracker: TaskTracker,
}

/// The dedicated reader of one Subscription.
pub(crate) struct Reader {
    parts: Arc<Parts>,
    cell: Arc<PositionCell>,
    stop: CancellationToken,
    connection: Connection,
    probes: Probes,
    complaints: Seldom,
}

/// What a reader works with while the stream stays the same one.
struct Work {
    stream: SourceStream,
    window: Window,
    kept: Kept,
    /// The cursor that was written last, and when.
    written: (Cursor, Instant),
    state: State,
    /// The growth of the stream: when it was looked at, and how far it went.
    growth: Growth,
    matcher: Option<(u64, Matcher<SubscriptionUid, ()>)>,
}

/// How fast a stream grows.
struct Growth {
    since: Instant,
    last: u64,
    /// By how much it grew in [`AHEAD`] lately.
    ahead: u64,
}

/// The Subscription as it is served now.
struct Serving {
    /// The version of the index in which the Subscription was found.
    version: u64,
    subscription: Arc<Subscription>,
    producer: Arc<Producer>,
}

/// How a reader goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// At once.
    Again,
    /// When something may have changed.
    Look,
    /// Not at all: the Subscription is live, or no longer this dispatcher's.
    Ends,
}

impl Reader {
    pub(crate) fn new(parts: Arc<Parts>, cell: Arc<PositionCell>, stop: CancellationToken) -> Self {
        let connection = Connection::new(Arc::clone(&parts.connections));
        Self { parts, cell, stop, connection, probes: Probes::default(), complaints: Seldom::default() }
    }

    pub(crate) fn uid(&self) -> &SubscriptionUid {
        self.cell.uid()
    }

    /// Reads until the Subscription is live or no longer this dispatcher's, or until it is stopped.
    pub(crate) async fn run(mut self) {
        let mut work = None;
        loop {
            let next = match self.go_on(&mut work).await {
                Ok(next) => next,
                Err(failure) => {
                    if self.complaints.now() {
                        warn!(subscription_uid = %self.uid(), error = chain(&failure), "a dedicated reader can't go on; retrying");
                    }
                    self.stop.run_until_cancelled(sleep(RETRY)).await;
                    Next::Again
                }
            };
            match next {
                Next::Again => {}
                Next::Look => self.look(work.as_mut()).await,
                Next::Ends => break,
            }
        }
        if let Some(work) = &mut work
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
        let Known { position: Some(position), revision, .. } = self.cell.known() else { return Ok(Next::Look) };
        let version = self.parts.deliverer.index.version();
        let serving = match self.parts.deliverer.index.lookup(self.uid()) {
            Lookup::Serving(subscription, producer) => Serving { version, subscription, producer },
            Lookup::Deleted => return Ok(Next::Ends),
            Lookup::Barred(_) | Lookup::Absent { .. } => return Ok(Next::Look),
        };
        let work = match work {
            Some(work) if work.is_of(&serving.producer) => work,
            _ => work.insert(self.open(&serving.producer).await?),
        };
        if position.stream_created != serving.producer.record.stream.created {
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
        if flows && let Some(sequence) = work.window.again() {
            if work.window.room() == 0 {
                return Ok(Next::Look);
            }
            return self.read_again(work, serving, sequence).await;
        }
        let mut changed = position.clone();
        let mut seen = Seen {
            next: work.kept.cursor.next,
            may_read: flows,
            last: work.state.last,
            ahead: work.growth.ahead,
            all_loaded: self.parts.slots.all_loaded(revision),
            floor: 0,
        };
        let mut step = changed.next(&seen);
        if matches!(step, Step::Wait | Step::Store) {
            // Whether there is more to read, or all is done, is judged by what the leaders say now.
            work.look(work.stream.state().await?);
            let shared = work.stream.shared(&serving.producer.record.consumer).await?;
            seen.last = work.state.last;
            seen.ahead = work.growth.ahead;
            seen.floor = if shared.is_idle { seen.last.max(shared.floor) } else { shared.floor };
            changed.clone_from(position);
            step = changed.next(&seen);
        }
        match step {
            Step::Live => Ok(Next::Look),
            Step::Read { .. } if work.window.room() == 0 => Ok(Next::Look),
            Step::Read { from, upto } => self.read(work, serving, (from, upto), BATCH).await,
            Step::Store if !work.window.is_idle() => Ok(Next::Look),
            Step::Store => self.store(work, changed, revision).await,
            Step::Wait => Ok(Next::Look),
        }
    }

    async fn store(&self, work: &mut Work, changed: Position, revision: u64) -> Result<Next, ReadError> {
        // A range goes only after the cursor says durably what it has come to.
        self.write_cursor(work).await?;
        if !self.parts.slots.owns(self.uid()) {
            return Ok(Next::Ends);
        }
        let ranges = changed.ranges.clone();
        if self.parts.positions.write(&self.cell, changed, revision).await? {
            info!(subscription_uid = %self.uid(), ?ranges, "the position of a Subscription has changed");
        } else {
            self.parts.positions.refresh(&self.cell).await;
        }
        Ok(Next::Again)
    }

    /// Brings forward what is parked, once the Subscription's events flow again.
    async fn forward(&self, position: &Position, revision: u64, since: Timestamp) -> Result<Next, ReadError> {
        let now = self.parts.deliverer.clock.now();
        let brought = bring_forward(&self.parts.nats, self.uid(), now, since).await?;
        info!(subscription_uid = %self.uid(), brought, "brought parked deliveries forward");
        let flowing = Position { waits: None, ..position.clone() };
        if !self.parts.positions.write(&self.cell, flowing, revision).await? {
            self.parts.positions.refresh(&self.cell).await;
        }
        Ok(Next::Again)
    }

    /// Ends what is left of another stream's ranges: their events are gone.
    async fn leave_stream(&self, work: &mut Work, position: &Position, revision: u64) -> Result<Next, ReadError> {
        let created = work.kept.cursor.stream_created;
        let left = cursors::read(&self.parts.nats, self.uid(), position.stream_created).await?.cursor;
        let from = position.ranges.first().map_or(left.next, |range| range.from.max(left.next));
        if !position.ranges.is_empty() && from <= left.last {
            work.kept.cursor.miss(from, left.last, self.parts.deliverer.clock.now());
        }
        let live = Position { waits: position.waits, ..Position::live(created) };
        self.store(work, live, revision).await
    }

    async fn open(&self, producer: &Producer) -> Result<Work, ReadError> {
        let stream = &producer.record.stream;
        let mut source = SourceStream { nats: self.parts.nats.clone(), name: stream.name.clone(), filters: Vec::new() };
        source.filters = source.shared(&producer.record.consumer).await?.filters;
        let (state, kept) = (source.state().await?, cursors::read(&self.parts.nats, self.uid(), stream.created).await?);
        let growth = Growth { since: Instant::now(), last: state.last, ahead: 0 };
        let window = Window::new(kept.cursor.under_way.iter().copied());
        let written = (kept.cursor.clone(), Instant::now());
        Ok(Work { stream: source, window, kept, written, state, growth, matcher: None })
    }

    async fn write_cursor_if_due(&self, work: &mut Work) -> Result<(), ReadError> {
        if work.written.1.elapsed() >= WRITE { self.write_cursor(work).await } else { Ok(()) }
    }

    /// Writes the cursor, if it has changed.
    async fn write_cursor(&self, work: &mut Work) -> Result<(), ReadError> {
        work.window.take();
        work.kept.cursor.under_way = work.window.unsettled();
        work.kept.cursor.last = work.state.last;
        if let Some(oldest) = work.window.oldest() {
            work.kept.cursor.oldest = Some(oldest);
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

    /// Waits until something may have changed.
    async fn look(&self, work: Option<&mut Work>) {
        let (mut positions, mut slots) = (self.parts.positions.cells.changes(), self.parts.slots.changes());
        let settled = async {
            match work {
                Some(work) if work.window.is_under_way() => work.window.wait().await,
                _ => std::future::pending().await,
            }
        };
        let changed = async {
            tokio::select! {
                _ = positions.changed() => {}
                _ = slots.changed() => {}
                () = settled => {}
            }
        };
        let _ = self.stop.run_until_cancelled(timeout(LOOK, changed)).await;
    }
}

impl Work {
    fn is_of(&self, producer: &Producer) -> bool {
        self.stream.name == producer.record.stream.name
            && self.kept.cursor.stream_created == producer.record.stream.created
    }

    /// Takes a look at the stream.
    fn look(&mut self, state: State) {
        let elapsed = self.growth.since.elapsed();
        if elapsed >= LOOK {
            let grown = state.last.saturating_sub(self.growth.last) as f64;
            self.growth.ahead = (grown * AHEAD.as_secs_f64() / elapsed.as_secs_f64()).ceil() as u64;
            (self.growth.since, self.growth.last) = (Instant::now(), state.last);
        }
        self.state = state;
    }

    /// Passes over what the stream has dropped, and what is left out on request.
    fn pass_over(&mut self, position: &Position, subscription: &Subscription, now: Timestamp) {
        let cursor = &mut self.kept.cursor;
        // Until the range is begun, it may begin earlier.
        let Some(range) = position.ranges.first().filter(|range| range.begun) else { return };
        cursor.next = cursor.next.max(range.from);
        if let Some(skip) = subscription.flow.skip_to
            && skip.stream_created == cursor.stream_created
            && cursor.next <= skip.sequence
        {
            cursor.skipped += skip.sequence + 1 - cursor.next;
            cursor.next = skip.sequence + 1;
        }
        let from = cursor.next;
        if from < self.state.first {
            cursor.miss(from, self.state.first - 1, now);
            cursor.next = self.state.first;
        }
    }
}
