//! What was given up, as a NATS message: the body and the headers are the event's, as a parked delivery has them, and the
//! reason is JSON in one header.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::{RecordError, VERSION, encode_header};
use crate::delivery::event_ref::EventRef;
use crate::delivery::progress::Progress;
use crate::nats::delivery_id::DeliveryId;
use crate::nats::ids::{ProducerUid, SubscriptionUid};

/// Header of a dead letter: JSON of [`DeadLetter`].
pub const DEAD_LETTER_HEADER: &str = "Hookwright-Dead-Letter";

/// Why a delivery, or an event itself, was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeadLetterReason {
    /// `maxAttempts` attempts failed.
    AttemptsExhausted,
    /// `maxDuration` has passed since the first attempt.
    DeadlineExceeded,
    /// The endpoint answered 410, or the subscription is disabled since one did.
    EndpointGone,
    /// The egress rules forbid the endpoint.
    Blocked,
    /// The request could not be built or signed.
    Unsignable,
    /// The event is too large to be kept for a retry.
    TooLarge,
    /// As much of the subscription waits already as may: its park quota is used up.
    RetryQuotaExceeded,
    /// The event can't be read: broken CloudEvents JSON, no type where one is required.
    Malformed,
    /// The event's data is not as its schema says, or its type has none.
    SchemaViolation,
}

impl DeadLetterReason {
    /// The name, as it stands in dead letters and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "AttemptsExhausted",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::EndpointGone => "EndpointGone",
            Self::Blocked => "Blocked",
            Self::Unsignable => "Unsignable",
            Self::TooLarge => "TooLarge",
            Self::RetryQuotaExceeded => "RetryQuotaExceeded",
            Self::Malformed => "Malformed",
            Self::SchemaViolation => "SchemaViolation",
        }
    }
}

/// What was given up, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetter {
    /// [`crate::codec::VERSION`].
    pub version: u32,
    /// Why.
    pub reason: DeadLetterReason,
    /// The rest of the reason, for a reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When.
    pub time: Timestamp,
    /// Whose event it is.
    pub producer: ProducerUid,
    /// Who did not get it; none if the event itself is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionUid>,
    /// The delivery's identity; none if the event itself is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<DeliveryId>,
    /// The event.
    pub event: EventRef,
    /// What had happened before.
    pub progress: Progress,
    /// The body and the headers were too large to keep: they are in the event's stream, as long as it keeps them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reference_only: bool,
}

impl DeadLetter {
    /// A delivery that was given up at `time`, after what `progress` says.
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

    /// An event that is itself at fault.
    #[must_use]
    pub fn of_event(producer: ProducerUid, event: EventRef, reason: DeadLetterReason, time: Timestamp) -> Self {
        Self {
            version: VERSION,
            reason,
            detail: None,
            time,
            producer,
            subscription: None,
            id: None,
            event,
            progress: Progress::default(),
            reference_only: false,
        }
    }

    /// The same with the rest of the reason.
    #[must_use]
    pub fn with_detail(self, detail: Option<String>) -> Self {
        Self { detail, ..self }
    }

    /// The headers of the message that keeps it, beside the event's own.
    ///
    /// # Errors
    /// If it can't be encoded, which doesn't happen.
    pub fn headers(&self) -> Result<[(&'static str, String); 2], RecordError> {
        Ok([(DEAD_LETTER_HEADER, encode_header(self)?), ("Nats-Msg-Id", self.message_id())])
    }

    /// Its `Nats-Msg-Id`: kept twice within the duplicate window, it is kept once.
    #[must_use]
    pub fn message_id(&self) -> String {
        let EventRef { stream_created, sequence, .. } = &self.event;
        match &self.id {
            Some(id) => id.to_string(),
            None => format!("{}:{}:{sequence}", self.producer, stream_created.as_nanosecond()),
        }
    }
}
