//! Reads each part of a stream once for all dedicated readers that come to it at about the same time: many Subscriptions
//! of one Producer may come back at once.
//!
//! A block stays in memory while readers come to it again and again. If other blocks take all of the memory, a reader
//! reads no more than it needs, for itself alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hookwright_core::nats::ids::ProducerUid;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::catch_up::block::Block;
use crate::catch_up::memory::{Memory, Reserved};
use crate::config::index::Producer;

/// The most events of a block.
pub(super) const EVENTS: usize = 1_000;
/// The most bytes of a block, unless one message has more.
const BYTES: usize = 1 << 20;
/// A block makes room for others once no reader has come to it for this long.
const UNUSED: Duration = Duration::from_secs(1);
/// How long a block is used, so that what was purged is soon no longer delivered.
const OLD: Duration = Duration::from_secs(10);
/// How many blocks from one sequence on, at most, are looked through for the one that has it.
const OVERLAPPING: usize = 8;

/// The blocks of all streams, and the memory that they share.
pub(crate) struct Blocks {
    memory: Arc<Memory>,
    /// How much is taken for a block before it is read.
    block: usize,
    of: Mutex<HashMap<ProducerUid, Weak<Shelf>>>,
}

/// The blocks of one Producer's stream, as its record and the filters of its consumer say what its events are.
pub(super) struct Shelf {
    producer: Arc<Producer>,
    filters: Vec<String>,
    blocks: Mutex<BTreeMap<u64, Kept>>,
    /// Held by the reader that reads, so that the others find what it has read. It says when a read has failed last.
    turn: AsyncMutex<Option<Instant>>,
}

struct Kept {
    block: Arc<Block>,
    read: Instant,
    used: Instant,
}

impl Blocks {
    /// Blocks that take at most this many bytes together. `max_message` is the size of the largest message.
    pub(crate) fn new(most: usize, max_message: usize) -> Self {
        Self { memory: Memory::new(most), block: BYTES.max(max_message), of: Mutex::default() }
    }

    /// The blocks of this Producer.
    pub(super) fn of(&self, producer: &Arc<Producer>, filters: &[String]) -> Arc<Shelf> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.retain(|_, shelf| shelf.strong_count() > 0);
        let uid = &producer.record.uid;
        if let Some(shelf) = of.get(uid).and_then(Weak::upgrade).filter(|shelf| shelf.is_of(producer, filters)) {
            return shelf;
        }
        let shelf = Arc::new(Shelf {
            producer: Arc::clone(producer),
            filters: filters.to_vec(),
            blocks: Mutex::default(),
            turn: AsyncMutex::default(),
        });
        of.insert(uid.clone(), Arc::downgrade(&shelf));
        shelf
    }

    /// Takes memory for a block; none if blocks that are in use take all of it.
    fn reserve(&self) -> Option<Reserved> {
        self.memory.reserve(self.block).or_else(|| {
            self.tidy(UNUSED);
            self.memory.reserve(self.block)
        })
    }

    /// Forgets the old blocks. To be called now and then.
    pub(super) fn forget_old(&self) {
        self.tidy(OLD);
    }

    fn tidy(&self, unused: Duration) {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let shelves: Vec<_> = of.values().filter_map(Weak::upgrade).collect();
        drop(of);
        shelves.iter().for_each(|shelf| shelf.tidy(unused));
    }
}

impl Shelf {
    pub(super) fn is_of(&self, producer: &Arc<Producer>, filters: &[String]) -> bool {
        self.producer == *producer && self.filters == filters
    }

    /// The block that has this sequence, if one has been read.
    pub(super) fn find(&self, sequence: u64) -> Option<Arc<Block>> {
        let (mut blocks, now) = (self.blocks(), Instant::now());
        let mut before = blocks.range_mut(..=sequence).rev().take(OVERLAPPING);
        let (_, kept) = before.find(|(_, kept)| sequence < kept.block.end && kept.is_fresh(now))?;
        kept.used = now;
        Some(Arc::clone(&kept.block))
    }

    /// The block that has this sequence. If there is none, `read` reads one from there on, with the memory that it may
    /// keep, or for this reader alone if there is no memory for it. `None` if nothing can be read now.
    pub(super) async fn find_or_read<E, F>(
        &self,
        blocks: &Blocks,
        sequence: u64,
        read: impl FnOnce(Option<Reserved>) -> F,
    ) -> Result<Option<Arc<Block>>, E>
    where
        F: Future<Output = Result<Option<Block>, E>>,
    {
        if let Some(found) = self.find(sequence) {
            return Ok(Some(found));
        }
        let asked = Instant::now();
        let mut failed = self.turn.lock().await;
        if let Some(found) = self.find(sequence) {
            return Ok(Some(found));
        }
        if failed.is_some_and(|failed| failed > asked) {
            // If a read fails, the readers that waited for it don't fail one after the other.
            return Ok(None);
        }
        let Some(reserved) = blocks.reserve() else {
            drop(failed);
            return Ok(read(None).await?.map(Arc::new));
        };
        let block = match read(Some(reserved)).await {
            Ok(Some(block)) => Arc::new(block),
            other => {
                *failed = Some(Instant::now());
                return other.map(|_| None);
            }
        };
        if block.end > sequence {
            let now = Instant::now();
            self.blocks().insert(sequence, Kept { block: Arc::clone(&block), read: now, used: now });
        }
        Ok(Some(block))
    }

    /// Forgets the blocks that no reader has come to for this long, and those that are old.
    fn tidy(&self, unused: Duration) {
        let now = Instant::now();
        self.blocks().retain(|_, kept| kept.is_fresh(now) && now.saturating_duration_since(kept.used) < unused);
    }

    // A poisoned lock means a panic in the map, which is whole then.
    fn blocks(&self) -> MutexGuard<'_, BTreeMap<u64, Kept>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.read) < OLD
    }
}

#[cfg(test)]
mod tests;
