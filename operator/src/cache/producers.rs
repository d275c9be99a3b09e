//! What the operator knows of each Producer. Subscriptions read it here, so that their reconcile needn't wait until a
//! status comes back from the API server.

use std::collections::HashMap;
use std::time::Duration;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::record::StreamRef;

use hookwright_crds::{AllowedNamespaces, Delivery, PayloadPolicy, Producer};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::cache::shared::Shared;
use crate::refusal::Refusal;

/// The stream and the consumer of a Producer that can be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveProducer {
    pub(crate) stream: StreamRef,
    pub(crate) consumer: String,
    /// The subjects that the consumer is restricted to. An empty list means all subjects of the stream.
    pub(crate) filter: Vec<String>,
    /// The revision of the Producer's record.
    pub(crate) revision: u64,
}

/// The result of a Producer's last reconcile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub(crate) accepted: Result<(), Refusal>,
    /// Stream, consumer and record as they were last seen in place. They are kept when a later spec is
    /// refused, unless the Producer may no longer read them.
    pub(crate) live: Option<LiveProducer>,
    /// Whether no live dispatcher served the Producer at the last look.
    pub(crate) unserved: bool,
}

/// What a Producer's spec says about its Subscriptions. It applies even if the spec is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Terms {
    allowed_namespaces: Option<AllowedNamespaces>,
    payload_policies: Option<Vec<PayloadPolicy>>,
    delivery: Option<Delivery>,
}

/// How long after the operator's start a Subscription waits for the first look at its Producer. Waiting saves a write
/// of status in between.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// The states of all Producers, by uid.
pub(crate) struct ProducerStates {
    states: Shared<HashMap<ProducerUid, ProducerState>>,
    terms: Shared<HashMap<ProducerUid, Terms>>,
    looked: watch::Sender<()>,
    since: Instant,
}

impl Default for ProducerStates {
    fn default() -> Self {
        let (states, terms) = (Shared::default(), Shared::default());
        Self { states, terms, looked: watch::Sender::new(()), since: Instant::now() }
    }
}

impl ProducerStates {
    /// Notes what the spec says about Subscriptions, and returns whether that has changed.
    pub(crate) fn note_terms(&self, uid: &ProducerUid, producer: &Producer) -> bool {
        let terms = Terms {
            allowed_namespaces: producer.spec.allowed_namespaces.clone(),
            payload_policies: producer.spec.payload_policies.clone(),
            delivery: producer.spec.delivery.clone(),
        };
        let mut all = self.terms.lock();
        all.insert(uid.clone(), terms.clone()) != Some(terms)
    }

    pub(crate) fn get(&self, producer: &ProducerUid) -> Option<ProducerState> {
        self.states.lock().get(producer).cloned()
    }

    /// Returns the state of a Producer. While the operator starts, it waits for the first look at the Producer.
    pub(crate) async fn first_look(&self, producer: &ProducerUid) -> Option<ProducerState> {
        let mut looked = self.looked.subscribe();
        while self.get(producer).is_none() {
            if !matches!(timeout_at(self.since + FIRST_LOOK, looked.changed()).await, Ok(Ok(()))) {
                break;
            }
        }
        self.get(producer)
    }

    /// Notes the state, and returns whether it has changed.
    pub(crate) fn set(&self, producer: &ProducerUid, state: ProducerState) -> bool {
        let changed = self.states.lock().insert(producer.clone(), state.clone()) != Some(state);
        self.looked.send_replace(());
        changed
    }

    pub(crate) fn forget(&self, producer: &ProducerUid) {
        self.states.lock().remove(producer);
        self.terms.lock().remove(producer);
    }

    /// Returns the Producers that can be read from.
    pub(crate) fn live(&self) -> Vec<(ProducerUid, LiveProducer)> {
        self.states.lock().iter().filter_map(|(uid, state)| Some((uid.clone(), state.live.clone()?))).collect()
    }
}
