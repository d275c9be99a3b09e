//! How far a mirror of a bucket has come.

use std::sync::atomic::{AtomicU64, Ordering};

use hookwright_core::record::lease::BucketRevision;
use tokio::sync::watch;

/// How far a mirror of a bucket has come.
#[derive(Debug)]
pub(crate) struct Loaded {
    revision: watch::Sender<Option<BucketRevision>>,
    behinds: AtomicU64,
}

impl Default for Loaded {
    fn default() -> Self {
        Self { revision: watch::Sender::new(None), behinds: AtomicU64::new(0) }
    }
}

impl Loaded {
    /// The revision up to which everything is loaded; `None` while what is loaded may be out of date.
    pub(crate) fn revision(&self) -> watch::Receiver<Option<BucketRevision>> {
        self.revision.subscribe()
    }

    /// The same, as a number.
    pub(crate) fn number(&self) -> Option<u64> {
        self.revision.borrow().map(|loaded| loaded.revision)
    }

    /// How often what is loaded was out of date.
    pub(crate) fn behinds(&self) -> u64 {
        self.behinds.load(Ordering::Acquire)
    }

    /// Publishes that what is loaded may be out of date.
    pub(crate) fn set_behind(&self) {
        self.behinds.fetch_add(1, Ordering::AcqRel);
        self.revision.send_replace(None);
    }

    /// Publishes that everything up to this revision is loaded.
    pub(crate) fn set(&self, revision: BucketRevision) {
        self.revision.send_replace(Some(revision));
    }
}
