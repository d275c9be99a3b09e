//! A delivery that waits for its next attempt, as a NATS message: the body is the event's as published, the event's headers
//! are kept under [`EVENT_HEADER_PREFIX`](crate::delivery::event_ref::EVENT_HEADER_PREFIX), and what Hookwright knows is
//! JSON in one header.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::{RecordError, encode_header};
use crate::delivery::event_ref::EventRef;
use crate::delivery::progress::Progress;
use crate::nats::delivery_id::DeliveryId;
use crate::nats::ids::{ProducerUid, SubscriptionUid};

/// Header of a parked delivery: JSON of [`ParkedDelivery`].
pub const PARKED_HEADER: &str = "Hookwright-Parked";

/// A delivery that waits. Endpoint, payload and policy are not in it: they are read when it is attempted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParkedDelivery {
    /// [`crate::codec::VERSION`].
    pub version: u32,
    /// Who is to get it.
    pub subscription: SubscriptionUid,
    /// Whose event it is.
    pub producer: ProducerUid,
    /// The delivery's identity.
    pub id: DeliveryId,
    /// The config revision of the subscription's record: a dispatcher that has not loaded up to it waits; one that has
    /// and finds no such subscription knows that it was deleted.
    pub revision: u64,
    /// The event.
    pub event: EventRef,
    /// What has happened so far.
    pub progress: Progress,
}

impl ParkedDelivery {
    /// The headers of the message that parks it: the server publishes it to the subject `target` at `at` (NATS ADR-51).
    ///
    /// # Errors
    /// If it can't be encoded, which doesn't happen.
    pub fn headers(&self, at: Timestamp, target: &str) -> Result<[(&'static str, String); 3], RecordError> {
        Ok([
            (PARKED_HEADER, encode_header(self)?),
            ("Nats-Schedule", format!("@at {at}")),
            ("Nats-Schedule-Target", target.to_owned()),
        ])
    }
}
