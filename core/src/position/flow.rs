//! What the owner of a Subscription has asked for: whether its events are delivered now, and which are left out.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether a Subscription's events are delivered now, and which are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Flow {
    /// Nothing is delivered. Events wait in the stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// The mark of the last request to resume ([`resume_mark`]). Each new one ends that the Subscription is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<u64>,
    /// The dedicated reader leaves out what has waited up to here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_to: Option<SkipTo>,
}

/// A sequence of a stream up to which the events that wait are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkipTo {
    /// When the stream was created.
    pub stream_created: Timestamp,
    /// The last sequence that is left out.
    pub sequence: u64,
}

/// The mark of a request to resume: a number that differs if the text does.
#[must_use]
pub fn resume_mark(text: &str) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(6).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
}

impl Flow {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
