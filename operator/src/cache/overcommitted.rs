//! Whether what may be kept in NATS is more than its account lets be kept.

use hookwright_crds::{Producer, Storage, StreamPolicy};

use crate::cache::shared::Shared;

/// A limit of the account, in bytes, below which not everything stays that may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) storage: Storage,
    /// The number of copies of the streams for which it holds; all streams together, if there is none.
    pub(crate) copies: Option<u64>,
    pub(crate) limit: u64,
}

/// What the last look at the account has found; nothing before the first one.
#[derive(Default)]
pub(crate) struct Overcommitted(Shared<Option<Vec<Exceeded>>>);

impl Exceeded {
    /// Returns whether a stream with so many copies is one of those for which the limit holds.
    pub(crate) fn concerns(&self, (storage, copies): (Storage, u64)) -> bool {
        self.storage == storage && self.copies.is_none_or(|of| of == copies)
    }
}

impl Overcommitted {
    /// Notes what was found, and returns whether that is news.
    pub(crate) fn note(&self, exceeded: &[Exceeded]) -> bool {
        self.0.lock().replace(exceeded.to_vec()).as_deref() != Some(exceeded)
    }

    pub(crate) fn get(&self) -> Option<Vec<Exceeded>> {
        self.0.lock().clone()
    }
}

/// Returns how the Producer's stream is kept, and with how many copies, if it is a managed one.
pub(crate) fn managed_storage(producer: &Producer) -> Option<(Storage, u64)> {
    let Some(stream) = &producer.spec.stream else { return Some((Storage::default(), 1)) };
    let copies = stream.replicas.and_then(|copies| u64::try_from(copies).ok()).unwrap_or(1).max(1);
    (stream.policy != Some(StreamPolicy::Existing)).then(|| (stream.storage.unwrap_or_default(), copies))
}
