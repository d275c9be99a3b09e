//! A refusal says why a spec is not accepted, or why something that it refers to can't be used.

use hookwright_crds::Reason;

/// The reason and the message of a condition that is False because of the object itself or what it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
