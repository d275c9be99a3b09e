//! The selection of a Subscription.

use serde::{Deserialize, Serialize};

use crate::event::event_type::EventTypePattern;
use crate::select::filter::Filter;

/// The selection of a Subscription: which of its Producer's events it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    /// Patterns of event types. One of them has to match, or one of `versions`.
    pub event_types: Vec<EventTypePattern>,
    /// Event types of which only one major version is selected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<TypeVersion>,
    /// Filters, all of which an event of these types has to pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

/// A pattern of event types, and the major version of the EventSchema that their events have to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TypeVersion {
    /// The pattern.
    #[serde(rename = "type")]
    pub event_type: EventTypePattern,
    /// The major version.
    pub major: u32,
}
