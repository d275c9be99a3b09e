//! The record of a disabled Subscription.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The record of a Subscription that is disabled: the value of `disabled.<subscription>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disabled {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The generation of the Subscription that is disabled. An edit makes a new generation, which is served again.
    pub generation: i64,
    /// The mark of the request to resume that the disabled spec has, see [`Flow::resume`](crate::position::Flow).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<u64>,
    /// Why it is disabled.
    #[serde(default)]
    pub why: DisabledFor,
    /// Since when.
    pub since: Timestamp,
    /// When the operator found that another spec has taken its place. Failures before that count no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// Why a Subscription is disabled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisabledFor {
    /// The endpoint answered 410 Gone.
    #[default]
    EndpointGone,
    /// Deliveries have failed for as long as `disableAfter` allows.
    Failing,
}

impl Disabled {
    /// Whether it is this spec that is disabled: an edit, and a new request to resume, make another one.
    #[must_use]
    pub fn is_of(&self, generation: i64, resume: Option<u64>) -> bool {
        self.generation == generation && self.resume == resume
    }
}
