//! The memory that blocks take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory of blocks.
pub(super) struct Memory {
    most: usize,
    used: AtomicUsize,
}

/// A part of the memory. It is given back when dropped.
pub(super) struct Reserved {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, used: AtomicUsize::new(0) })
    }

    /// How much is taken.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Takes a part; none if there is not as much left.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.most);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Reserved { memory: Arc::clone(self), bytes })
    }
}

impl Reserved {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Shrinks the reservation to the size of the block that was read.
    pub(super) fn resized(mut self, bytes: usize) -> Self {
        self.memory.used.fetch_add(bytes, Ordering::AcqRel);
        self.memory.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.bytes = bytes;
        self
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
