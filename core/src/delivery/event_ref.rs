//! The reference from a stored delivery to its event, and the prefix under which it keeps the event's own headers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The prefix of the event's own headers in a parked delivery or a dead letter. It prevents the NATS server from acting
/// on these headers a second time.
pub const EVENT_HEADER_PREFIX: &str = "Hookwright-Event-";

/// A reference to the event of a delivery, with the type that was read from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventRef {
    /// The name of the stream that holds the event.
    pub stream: String,
    /// When that stream was created.
    pub stream_created: Timestamp,
    /// The sequence of the event in that stream.
    pub sequence: u64,
    /// The subject that the event was published to.
    pub subject: String,
    /// When the stream received the event.
    pub published: Timestamp,
    /// The type of the event; empty if no type could be read.
    pub event_type: String,
}
