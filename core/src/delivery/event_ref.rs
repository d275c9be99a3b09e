//! Which event a stored delivery is of, and how its message keeps the event's own headers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the names of the event's own headers are prefixed with, so that none of them acts on the server again.
pub const EVENT_HEADER_PREFIX: &str = "Hookwright-Event-";

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
