//! Whether what may be kept in NATS is more than its account lets be kept.

use hookwright_crds::{Producer, Storage, StreamPolicy};

use crate::cache::shared::Shared;

/// The limits of the account, in bytes, below which not everything stays that may be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) file: Option<u64>,
    pub(crate) memory: Option<u64>,
}

/// What the last look at the account has found; nothing before the first one.
#[derive(Default)]
pub(crate) struct Overcommitted(Shared<Option<Exceeded>>);

impl Exceeded {
    pub(crate) fn of(&self, storage: Storage) -> Option<u64> {
        match storage {
            Storage::File => self.file,
            Storage::Memory => self.memory,
        }
    }
}

impl Overcommitted {
    /// Notes what was found, and returns whether that is news.
    pub(crate) fn note(&self, exceeded: Exceeded) -> bool {
        self.0.lock().replace(exceeded) != Some(exceeded)
    }

    pub(crate) fn get(&self) -> Option<Exceeded> {
        *self.0.lock()
    }
}

/// Returns how the Producer's stream is kept, if it is a managed one.
pub(crate) fn managed_storage(producer: &Producer) -> Option<Storage> {
    let Some(stream) = &producer.spec.stream else { return Some(Storage::default()) };
    (stream.policy != Some(StreamPolicy::Existing)).then(|| stream.storage.unwrap_or_default())
}
