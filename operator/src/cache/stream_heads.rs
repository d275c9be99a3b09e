//! How far the streams of Producers go, as the checkpoints see it every 10 s.

use std::collections::HashMap;

use hookwright_core::nats::ids::ProducerUid;

use crate::cache::progress::Head;
use crate::cache::shared::Shared;

/// The last look at each Producer's stream.
#[derive(Default)]
pub(crate) struct StreamHeads(Shared<HashMap<ProducerUid, Head>>);

impl StreamHeads {
    pub(crate) fn note(&self, uid: &ProducerUid, head: Head) {
        self.0.lock().insert(uid.clone(), head);
    }

    pub(crate) fn get(&self, uid: &ProducerUid) -> Option<Head> {
        self.0.lock().get(uid).copied()
    }

    /// Drops what is known of a Producer that is deleted.
    pub(crate) fn forget(&self, uid: &ProducerUid) {
        self.0.lock().remove(uid);
    }
}
