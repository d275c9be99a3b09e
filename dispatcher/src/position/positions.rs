//! Stores positions, by compare-and-set on the newest one.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use hookwright_core::nats::names::POSITIONS_BUCKET;
use hookwright_core::position::{Gone, Position, Reason, Waits};
use hookwright_core::record::{RecordError, decode, encode};
use hookwright_runtime::bucket::{Bucket, BucketError, Newest};
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::mirror::Mirror;
use hookwright_runtime::nats::Nats;
use jiff::Timestamp;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::position::cell::PositionCell;
use crate::position::cells::Cells;

/// The wait after a failed write: at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Why a position was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PositionError {
    #[error("can't read or write the bucket of positions")]
    Bucket(#[from] BucketError),
    #[error("can't decode or encode the position")]
    Record(#[from] RecordError),
}

/// The position of a Subscription can't be read: a newer release may have written it. Nobody may wait until it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the position can't be read")]
pub(crate) struct Unreadable;

/// The positions of all Subscriptions.
pub(crate) struct Positions {
    nats: Nats,
    /// What is known of them.
    pub(crate) cells: Arc<Cells>,
    complaints: Seldom,
}

impl Positions {
    pub(crate) fn new(nats: Nats) -> Arc<Self> {
        Arc::new(Self { nats, cells: Arc::default(), complaints: Seldom::default() })
    }

    /// Follows the bucket, for as long as the process runs.
    pub(crate) async fn run(self: Arc<Self>, nats: Nats) {
        Mirror::new(nats, POSITIONS_BUCKET, "*").run(|change| self.cells.apply(change)).await;
    }

    /// Makes the Subscription's position cover an event that must not be delivered now, and returns once that is stored;
    /// or tells that the delivery has to be parked.
    pub(crate) async fn go_behind(
        &self,
        cell: &PositionCell,
        (stream_created, sequence): (Timestamp, u64),
        now: Timestamp,
        reason: Reason,
    ) -> Result<Gone, Unreadable> {
        let change = |position: &mut Position| {
            if position.stream_created != stream_created {
                // An event of an earlier stream.
                return (false, Gone::Park);
            }
            let gone = position.go_behind(sequence, now, reason);
            (gone == Gone::Behind, gone)
        };
        let gone = self.change(cell, stream_created, change).await?;
        if gone == Gone::Behind {
            info!(subscription_uid = %cell.uid(), sequence, ?reason, "a Subscription is behind from this sequence on");
        }
        Ok(gone)
    }

    /// Remembers that parked deliveries wait for the Subscription, so that they are brought forward afterwards.
    pub(crate) async fn wait(
        &self,
        cell: &PositionCell,
        stream_created: Timestamp,
        now: Timestamp,
    ) -> Result<(), Unreadable> {
        let change = |position: &mut Position| {
            let is_new = position.waits.is_none();
            position.waits.get_or_insert(Waits::since(now));
            (is_new, ())
        };
        self.change(cell, stream_created, change).await
    }

    /// Removes the position of a Subscription that was deleted, unless there is a newer one than this revision.
    pub(crate) async fn remove(&self, cell: &PositionCell, revision: u64) -> Result<(), PositionError> {
        let bucket = Bucket::named(&self.nats, POSITIONS_BUCKET).await?;
        if bucket.remove_at(cell.uid().as_str(), revision).await? {
            cell.forget();
            self.cells.changed();
        }
        Ok(())
    }

    /// Writes a position again that somebody has removed, as it is known here. If another dispatcher has stored one
    /// meanwhile that begins later, that one is made to begin here.
    pub(crate) async fn restore(&self, cell: &PositionCell, removed: &Position) {
        let change = |position: &mut Position| {
            let changed = cell.known().removed || position.include(removed);
            (changed, changed)
        };
        let restored = self.change(cell, removed.stream_created, change).await;
        if restored == Ok(true) {
            warn!(
                subscription_uid = %cell.uid(),
                "somebody has removed the position of a Subscription that is behind; it is written again"
            );
        }
    }

    /// Changes a position until that is stored, or until `change` says that nothing is to be stored. If there is no position
    /// in this stream or a later one, it is that of a live Subscription.
    pub(crate) async fn change<T>(
        &self,
        cell: &PositionCell,
        stream_created: Timestamp,
        mut change: impl FnMut(&mut Position) -> (bool, T),
    ) -> Result<T, Unreadable> {
        let _right = cell.storing().await;
        loop {
            let known = cell.known();
            if known.unreadable {
                return Err(Unreadable);
            }
            let mut position = match &known.position {
                Some(position) if position.stream_created >= stream_created => Position::clone(position),
                Some(position) => position.moved_to(stream_created),
                None => Position::live(stream_created),
            };
            let (store, result) = change(&mut position);
            if !store {
                return Ok(result);
            }
            let mut lost = None;
            match self.write(cell, position, known.revision).await {
                Ok(true) => return Ok(result),
                Ok(false) => lost = Some(known.revision),
                Err(failure) => self.complain(&failure),
            }
            self.learn(cell, lost).await;
            if cell.known().revision == known.revision {
                // Nothing new was found.
                sleep(RETRY.0).await;
            }
        }
    }

    /// When the bucket was created that is there now.
    pub(crate) async fn created(&self) -> Result<Timestamp, PositionError> {
        Ok(Bucket::named(&self.nats, POSITIONS_BUCKET).await?.state().await?.created)
    }

    /// Stores a position if the newest one is still of this revision. Returns whether it was stored.
    async fn write(&self, cell: &PositionCell, position: Position, revision: u64) -> Result<bool, PositionError> {
        let bucket = Bucket::named(&self.nats, POSITIONS_BUCKET).await?;
        let Some(revision) = bucket.put_at(cell.uid().as_str(), encode(&position)?.into(), revision).await? else {
            return Ok(false);
        };
        cell.learn(Some(position), revision);
        self.cells.changed();
        Ok(true)
    }

    /// Stores a position, or learns the newest one if that isn't of this revision any more. Returns whether it was stored.
    pub(crate) async fn write_or_learn(
        &self,
        cell: &PositionCell,
        position: Position,
        revision: u64,
    ) -> Result<bool, PositionError> {
        let stored = self.write(cell, position, revision).await?;
        if !stored {
            self.learn(cell, Some(revision)).await;
        }
        Ok(stored)
    }

    /// Reads the newest position, from the leader. It is repeated until the leader answers.
    pub(crate) async fn refresh(&self, cell: &PositionCell) {
        self.learn(cell, None).await;
    }

    /// Reads the newest position, from the leader, until that answers. If a write at the revision `lost` has failed, the
    /// answer counts whatever its revision: the bucket may be another one.
    async fn learn(&self, cell: &PositionCell, lost: Option<u64>) {
        let read = async || -> Result<Newest, PositionError> {
            let bucket = Bucket::named(&self.nats, POSITIONS_BUCKET).await?;
            Ok(bucket.newest(cell.uid().as_str()).await?)
        };
        let backoff = ExponentialBuilder::default().with_min_delay(RETRY.0).with_max_delay(RETRY.1).with_jitter();
        let backoff = backoff.with_jitter_seed(rand::random()).without_max_times();
        let read = read.retry(backoff).notify(|failure, _| self.complain(failure)).await;
        if let Ok(Newest { revision, value }) = read {
            if let Some(lost) = lost {
                cell.distrust_at(lost);
            }
            match value.as_deref().map(decode::<Position>).transpose() {
                Ok(position) => cell.learn(position, revision),
                Err(RecordError::NoRecord(_)) if !cell.known().unreadable => cell.learn_removed(Some(revision)),
                // The mirror says why.
                Err(_) => cell.learn_unreadable(revision),
            }
        }
    }

    fn complain(&self, failure: &PositionError) {
        if self.complaints.now() {
            warn!(error = chain(failure), "can't store the position of a Subscription; retrying");
        }
    }
}
