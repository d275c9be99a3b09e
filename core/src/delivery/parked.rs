//! How a delivery looks while it waits for its next attempt, and after it was given up.
//!
//! Both are NATS messages: the body is the event's as published; the event's headers are kept under
//! [`EVENT_HEADER_PREFIX`], so that none of them acts on the server again; what Hookwright knows is JSON in one header.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::delivery::decide::DeadLetterReason;
use crate::delivery::id::DeliveryId;
use crate::delivery::outcome::AttemptRecord;
use crate::nats::ids::{ProducerUid, SubscriptionUid};

/// Header of a parked delivery: JSON of [`ParkedDelivery`].
pub const PARKED_HEADER: &str = "Hookwright-Parked";
/// Header of a dead letter: JSON of [`DeadLetter`].
pub const DEAD_LETTER_HEADER: &str = "Hookwright-Dead-Letter";
/// What the names of the event's own headers are prefixed with.
pub const EVENT_HEADER_PREFIX: &str = "Hookwright-Event-";
/// How many attempts are remembered with a delivery.
pub const HISTORY: usize = 16;

/// Which event a delivery is of, and how it was understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventRef {
    /// The stream that holds it.
    pub stream: String,
    /// When that stream was created.
    pub stream_created: Timestamp,
    /// Its sequence there.
    pub sequence: u64,
    /// The subject it was published to.
    pub subject: String,
    /// When the stream received it.
    pub published: Timestamp,
    /// Its type; empty if it has none that could be read.
    pub event_type: String,
}

/// What has happened to a delivery so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Progress {
    /// Failed attempts so far.
    pub attempts: u32,
    /// Parks in a row because the lane had no place; a park is not an attempt.
    pub parks: u32,
    /// When the first attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_attempt: Option<Timestamp>,
    /// No attempt after the one at or behind this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The last [`HISTORY`] attempts, oldest first.
    pub history: Vec<AttemptRecord>,
}

impl Progress {
    /// Remembers a failed attempt.
    pub fn failed(&mut self, attempt: AttemptRecord) {
        self.attempts = self.attempts.saturating_add(1);
        self.parks = 0;
        self.first_attempt.get_or_insert(attempt.time);
        if self.history.len() >= HISTORY {
            self.history.remove(0);
        }
        self.history.push(attempt);
    }
}

/// A delivery that waits. Endpoint, payload and policy are not in it: they are read when it is attempted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParkedDelivery {
    /// [`crate::record::VERSION`].
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

/// What was given up, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeadLetter {
    /// [`crate::record::VERSION`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::outcome::OutcomeKind;

    #[test]
    fn remembers_the_last_attempts() {
        let mut progress = Progress { parks: 3, ..Default::default() };
        let t = |s| Timestamp::from_second(s).unwrap();
        for second in 0..20 {
            progress.failed(AttemptRecord { time: t(second), outcome: OutcomeKind::TimedOut, http_status: None });
        }
        assert_eq!((progress.attempts, progress.parks, progress.history.len()), (20, 0, HISTORY));
        assert_eq!((progress.first_attempt, progress.history[0].time), (Some(t(0)), t(4)));
    }
}
