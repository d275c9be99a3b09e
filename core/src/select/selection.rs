//! The selection of a Subscription.

use serde::{Deserialize, Serialize};

use crate::event::event_type::EventTypePattern;
use crate::select::filter::Filter;

/// The selection of a Subscription: which of its Producer's events it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    /// Patterns of event types, at least one of which has to match.
    pub event_types: Vec<EventTypePattern>,
    /// Filters, all of which an event of these types has to pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}
