//! Parked deliveries: deliveries that wait for their next attempt, as NATS messages.
//!
//! The body is the event's, as it was published. One header holds the event's own headers
//! ([`crate::delivery::event_headers`]), and another one the record of the delivery, both as JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::{RecordError, encode_header};
use crate::delivery::event_ref::EventRef;
use crate::delivery::progress::Progress;
use crate::nats::delivery_id::DeliveryId;
use crate::nats::ids::{ProducerUid, SubscriptionUid};

/// The header of a parked delivery that holds a [`ParkedDelivery`] as JSON.
pub const PARKED_HEADER: &str = "Hookwright-Parked";

/// The record of a parked delivery. It doesn't contain endpoint and policy: the dispatcher uses the current ones when
/// it attempts the delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParkedDelivery {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The Subscription that is to get the event.
    pub subscription: SubscriptionUid,
    /// The Producer of the event.
    pub producer: ProducerUid,
    /// The id of the delivery.
    pub id: DeliveryId,
    /// The config revision of the Subscription's record. A dispatcher that has not loaded this revision yet waits. If
    /// it has loaded it and finds no such Subscription, the Subscription was deleted.
    pub revision: u64,
    /// A reference to the event.
    pub event: EventRef,
    /// The attempts and parks so far.
    pub progress: Progress,
}

impl ParkedDelivery {
    /// The names and values of the headers that the message has beside the event's own. The NATS server publishes the
    /// message to the subject `target` at the time `at` (NATS ADR-51).
    ///
    /// # Errors
    /// If the record can't be encoded, which doesn't happen.
    pub fn headers(&self, at: Timestamp, target: &str) -> Result<[(&'static str, String); 3], RecordError> {
        let [schedule, target] = schedule_headers(at, target);
        Ok([(PARKED_HEADER, encode_header(self)?), schedule, target])
    }
}

/// The names and values of the headers that have the NATS server publish a message to the subject `target` at the time
/// `at` (NATS ADR-51).
#[must_use]
pub fn schedule_headers(at: Timestamp, target: &str) -> [(&'static str, String); 2] {
    [("Nats-Schedule", format!("@at {at}")), ("Nats-Schedule-Target", target.to_owned())]
}
