//! What the operator knows of each Producer, for the Subscriptions that refer to it: their reconcile must not wait for a
//! status to come back from the API server.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hookwright_core::ids::ProducerUid;
use hookwright_core::record::StreamRef;

use crate::conditions::Refusal;

/// A Producer that can be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveProducer {
    pub(crate) stream: StreamRef,
    pub(crate) consumer: String,
    /// Of its record.
    pub(crate) revision: u64,
}

/// What the last reconcile came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerFacts {
    pub(crate) accepted: Result<(), Refusal>,
    /// Stream, consumer and record as last seen in place; kept when the spec is refused later.
    pub(crate) live: Option<LiveProducer>,
}

/// All Producers by uid.
#[derive(Default)]
pub(crate) struct Facts(Mutex<HashMap<ProducerUid, ProducerFacts>>);

impl Facts {
    fn map(&self) -> MutexGuard<'_, HashMap<ProducerUid, ProducerFacts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, producer: &ProducerUid) -> Option<ProducerFacts> {
        self.map().get(producer).cloned()
    }

    /// Returns whether anything changed.
    pub(crate) fn set(&self, producer: &ProducerUid, facts: ProducerFacts) -> bool {
        self.map().insert(producer.clone(), facts.clone()) != Some(facts)
    }

    pub(crate) fn forget(&self, producer: &ProducerUid) {
        self.map().remove(producer);
    }

    /// The Producers that can be read from.
    pub(crate) fn live(&self) -> Vec<(ProducerUid, LiveProducer)> {
        self.map().iter().filter_map(|(uid, facts)| Some((uid.clone(), facts.live.clone()?))).collect()
    }
}
