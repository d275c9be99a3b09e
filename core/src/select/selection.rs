//! Which events a Subscription gets.

use serde::{Deserialize, Serialize};

use crate::event::event_type::EventTypePattern;

/// Which events of its Producer a Subscription gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    /// Patterns of event types, of which one has to match.
    pub event_types: Vec<EventTypePattern>,
}
