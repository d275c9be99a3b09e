//! What happened to the streams of Producers: events that were removed before a dispatcher had received them, and streams
//! that were replaced. The checkpoints keep both over restarts of the operator.

use std::collections::HashMap;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::loss::Loss;
use hookwright_core::record::Checkpoint;
use jiff::Timestamp;

use crate::cache::shared::Shared;

/// What happened to one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamIncident {
    pub(crate) loss: Option<Loss>,
    /// When the stream was found to be another one of the same name.
    pub(crate) replaced: Option<Timestamp>,
}

/// The incidents by Producer. A Producer without an entry has not been looked at yet.
#[derive(Default)]
pub(crate) struct StreamIncidents(Shared<HashMap<ProducerUid, StreamIncident>>);

impl StreamIncidents {
    /// Notes what the checkpoint says, and returns whether that is news.
    pub(crate) fn note(&self, uid: &ProducerUid, checkpoint: &Checkpoint) -> bool {
        let incident = StreamIncident { loss: checkpoint.loss.clone(), replaced: checkpoint.replaced };
        let old = self.0.lock().insert(uid.clone(), incident.clone());
        old.unwrap_or_default() != incident
    }

    pub(crate) fn get(&self, uid: &ProducerUid) -> Option<StreamIncident> {
        self.0.lock().get(uid).cloned()
    }

    /// Drops what is known of a Producer that is deleted.
    pub(crate) fn forget(&self, uid: &ProducerUid) {
        self.0.lock().remove(uid);
    }
}
