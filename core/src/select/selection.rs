//! The selection of a Subscription.

use serde::{Deserialize, Serialize};

use crate::event::event_type::EventTypePattern;

/// The selection of a Subscription: which of its Producer's events it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    /// Patterns of event types, at least one of which has to match.
    pub event_types: Vec<EventTypePattern>,
}
