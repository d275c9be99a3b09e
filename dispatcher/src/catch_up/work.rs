//! What a dedicated reader works with: the parts that all readers share, and its place in the stream.

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::position::{Cursor, Position};
use hookwright_runtime::logging::Seldom;
use hookwright_runtime::nats::Nats;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catch_up::blocks::{Blocks, Shelf};
use crate::catch_up::slots::Slots;
use crate::catch_up::stream::{SourceStream, State, StreamError};
use crate::catch_up::turns::{Turn, Turns};
use crate::catch_up::window::Window;
use crate::config::index::Producer;
use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::intake::connections::Connections;
use crate::limits::budget::Budget;
use crate::position::cell::PositionCell;
use crate::position::cursors::Kept;
use crate::position::forward::ForwardError;
use crate::position::positions::{PositionError, Positions};

/// The shortest time between two looks at how fast the stream grows.
const LOOK: Duration = Duration::from_millis(500);
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
    pub(crate) budget: Budget,
    pub(crate) blocks: Blocks,
    pub(crate) turns: Arc<Turns>,
    pub(crate) tracker: TaskTracker,
}

/// The dedicated reader of one Subscription.
pub(crate) struct Reader {
    pub(super) parts: Arc<Parts>,
    pub(super) cell: Arc<PositionCell>,
    pub(super) stop: CancellationToken,
    pub(super) probes: Probes,
    pub(super) turn: Turn,
    pub(super) complaints: Seldom,
}

/// What a reader works with while the stream stays the same one.
pub(super) struct Work {
    pub(super) stream: SourceStream,
    /// The budget of events that wait in streams, of which namespaces and the readers of each leave some to others.
    pub(super) budget: Budget,
    /// What was read of the stream, by this reader or others.
    pub(super) shelf: Arc<Shelf>,
    pub(super) window: Window,
    pub(super) kept: Kept,
    /// The cursor that was written last, and when.
    pub(super) written: (Cursor, Instant),
    pub(super) state: State,
    /// When the stream was looked at.
    pub(super) looked: Instant,
    /// The end of the stream when the oldest event that waits was looked for.
    pub(super) looked_for: u64,
    /// The growth of the stream: when it was looked at, and how far it went.
    pub(super) growth: Growth,
    /// The wait before the next look at a stream that has still to come to the end of the range.
    pub(super) patience: Duration,
}

/// How fast a stream grows.
pub(super) struct Growth {
    pub(super) since: Instant,
    pub(super) last: u64,
    /// By how much it grew in [`AHEAD`] lately.
    pub(super) ahead: u64,
}

/// The Subscription as it is served now.
pub(super) struct Serving {
    /// The version of the index in which the Subscription was found.
    pub(super) version: u64,
    pub(super) subscription: Arc<Subscription>,
    pub(super) producer: Arc<Producer>,
}

/// How a reader goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At once.
    Again,
    /// When the window has room for more.
    Room,
    /// When something may have changed.
    Look,
    /// Not at all: the Subscription is live, or no longer this dispatcher's.
    Ends,
}

/// The probes of an endpoint so far.
#[derive(Debug, Default)]
pub(super) struct Probes {
    pub(super) failed: u32,
    /// When the next one is due; `None` before the first.
    pub(super) due: Option<Instant>,
    /// The revision of the Subscription's record at the last one.
    pub(super) revision: u64,
    /// The last event that was put aside and had its turn again; 0 before the first one.
    pub(super) last: u64,
}

impl Reader {
    pub(crate) fn new(parts: Arc<Parts>, cell: Arc<PositionCell>, stop: CancellationToken) -> Self {
        let turn = Turn::new(Arc::clone(&parts.turns), cell.uid().clone());
        let (probes, complaints) = (Probes::default(), Seldom::default());
        Self { parts, cell, stop, probes, turn, complaints }
    }

    pub(crate) fn uid(&self) -> &SubscriptionUid {
        self.cell.uid()
    }
}

impl Work {
    pub(super) fn is_of(&self, producer: &Producer) -> bool {
        self.stream.name == producer.record.stream.name
            && self.kept.cursor.stream_created == producer.record.stream.created
    }

    /// Takes a look at the stream.
    pub(super) fn look(&mut self, state: State) {
        let elapsed = self.growth.since.elapsed();
        if elapsed >= LOOK {
            let grown = state.last.saturating_sub(self.growth.last) as f64;
            self.growth.ahead = (grown * AHEAD.as_secs_f64() / elapsed.as_secs_f64()).ceil() as u64;
            (self.growth.since, self.growth.last) = (Instant::now(), state.last);
        }
        (self.state, self.looked) = (state, Instant::now());
    }

    /// Passes over what the stream has dropped, and what is left out on request.
    pub(super) fn pass_over(&mut self, position: &Position, subscription: &Subscription, now: Timestamp) {
        let cursor = &mut self.kept.cursor;
        // Until the range is begun, it may begin earlier.
        let Some(range) = position.ranges.first().filter(|range| range.begun) else { return };
        let before = cursor.next;
        cursor.next = cursor.next.max(range.from);
        if let Some(skip) = subscription.flow.skip_to
            && skip.stream_created == cursor.stream_created
        {
            cursor.skipped = cursor.skipped.saturating_add(self.window.leave_out_until(skip.sequence));
            if cursor.next <= skip.sequence {
                let next = skip.sequence.saturating_add(1);
                cursor.skipped = cursor.skipped.saturating_add(next - cursor.next);
                cursor.next = next;
            }
        }
        let from = cursor.next;
        if from < self.state.first {
            cursor.miss(from, self.state.first - 1, now);
            cursor.next = self.state.first;
        }
        if cursor.next > before {
            (cursor.oldest, self.looked_for) = (None, 0);
        }
    }
}
