//! Dead letters: deliveries and events that were given up, as NATS messages. A dead letter has the event's body and
//! headers in the same form as a parked delivery, and the reason as JSON in one header.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::{RecordError, VERSION, encode_header};
use crate::delivery::event_ref::EventRef;
use crate::delivery::progress::Progress;
use crate::nats::delivery_id::DeliveryId;
use crate::nats::ids::{ProducerUid, SubscriptionUid};

/// The header of a dead letter that holds a [`DeadLetter`] as JSON.
pub const DEAD_LETTER_HEADER: &str = "Hookwright-Dead-Letter";

/// Why a delivery or an event was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeadLetterReason {
    /// As many attempts as `maxAttempts` allows have failed.
    AttemptsExhausted,
    /// `maxDuration` has passed since the first attempt, or since the delivery was first parked without one.
    DeadlineExceeded,
    /// The endpoint answered 410 Gone, or the Subscription is disabled because of such an answer.
    EndpointGone,
    /// The request can't be built or signed.
    Unsignable,
    /// The payload that the Subscription wants can't be made of the event. Nothing was sent.
    TransformFailed,
    /// The event is too large to be kept for a retry.
    TooLarge,
    /// The park quota of the Subscription is used up: as many of its deliveries wait as may.
    RetryQuotaExceeded,
    /// The message can't be read as an event: for example, its CloudEvents JSON is broken, or it lacks a required type.
    Malformed,
    /// The event's data violates its schema, or the event's type has no EventSchema.
    SchemaViolation,
    /// To evaluate the Subscription's filters for this event could take too long. Whether it would match is not known.
    FilterTooExpensive,
    /// Work on the event or on the delivery has panicked, which is a fault of Hookwright.
    Internal,
}

impl DeadLetterReason {
    /// The name of the reason in dead letters and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "AttemptsExhausted",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::EndpointGone => "EndpointGone",
            Self::Unsignable => "Unsignable",
            Self::TransformFailed => "TransformFailed",
            Self::TooLarge => "TooLarge",
            Self::RetryQuotaExceeded => "RetryQuotaExceeded",
            Self::Malformed => "Malformed",
            Self::SchemaViolation => "SchemaViolation",
            Self::FilterTooExpensive => "FilterTooExpensive",
            Self::Internal => "Internal",
        }
    }
}

/// The record of a delivery or an event that was given up, and of the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetter {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The reason why it was given up.
    pub reason: DeadLetterReason,
    /// Details of the reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it was given up.
    pub time: Timestamp,
    /// The Producer of the event.
    pub producer: ProducerUid,
    /// The Subscription that didn't get the event; `None` if the event itself is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionUid>,
    /// The `namespace/name` of the Subscription, or of the Producer if the event itself is at fault. It finds the dead
    /// letters of an object that was deleted and created again with another uid. `None` if it wasn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The id of the delivery; `None` if the event itself is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<DeliveryId>,
    /// A reference to the event.
    pub event: EventRef,
    /// The attempts and parks before the delivery was given up.
    pub progress: Progress,
    /// Whether the event's body and headers were too large for the dead letter. They are only in the event's stream,
    /// for as long as the stream keeps them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reference_only: bool,
}

impl DeadLetter {
    /// The dead letter of a delivery that was given up at `time`.
    #[must_use]
    pub fn of_delivery(
        subscription: SubscriptionUid,
        producer: ProducerUid,
        id: DeliveryId,
        event: EventRef,
        progress: Progress,
        reason: DeadLetterReason,
        time: Timestamp,
    ) -> Self {
        Self {
            subscription: Some(subscription),
            id: Some(id),
            progress,
            ..Self::of_event(producer, event, reason, time)
        }
    }

    /// The dead letter of an event that is itself at fault.
    #[must_use]
    pub fn of_event(producer: ProducerUid, event: EventRef, reason: DeadLetterReason, time: Timestamp) -> Self {
        Self {
            version: VERSION,
            reason,
            detail: None,
            time,
            producer,
            subscription: None,
            name: None,
            id: None,
            event,
            progress: Progress::default(),
            reference_only: false,
        }
    }

    /// Sets the `namespace/name` of the Subscription, or of the Producer.
    #[must_use]
    pub fn with_name(self, name: String) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Sets the details of the reason.
    #[must_use]
    pub fn with_detail(self, detail: Option<String>) -> Self {
        Self { detail, ..self }
    }

    /// The names and values of the headers that the dead letter has beside the event's own.
    ///
    /// # Errors
    /// If the record can't be encoded, which doesn't happen.
    pub fn headers(&self) -> Result<[(&'static str, String); 2], RecordError> {
        Ok([(DEAD_LETTER_HEADER, encode_header(self)?), ("Nats-Msg-Id", self.message_id())])
    }

    /// The `Nats-Msg-Id` of the dead letter. If it is published twice within the duplicate window, NATS keeps it once.
    #[must_use]
    pub fn message_id(&self) -> String {
        let EventRef { stream_created, sequence, published, .. } = &self.event;
        match &self.id {
            Some(id) => id.to_string(),
            None => {
                let (created, stored) = (stream_created.as_nanosecond(), published.as_nanosecond());
                format!("{}:{created}:{sequence}:{stored}", self.producer)
            }
        }
    }
}
