//! The reference from a stored delivery to its event.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
