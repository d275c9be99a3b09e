//! What a webhook carries of an event: which parts of its data, and in which form.
//!
//! Everything here is made anew at each attempt, from the event as it was published. So an edit counts for the deliveries
//! that wait, too. First comes what the Producer withholds: whole events that its filters forbid, and fields. So nothing of
//! the Subscription's can look at it. Then come the Subscription's own choice of fields and its transform; then the form.
//! A field that isn't touched keeps its text byte for byte.

mod bounded;
mod data;
mod expression;
mod failure;
mod fields;
mod limits;
mod mode;
mod parts;
mod pointer;
mod render;
mod template;
mod transform;

pub use failure::{Forbidden, InvalidPayload, InvalidTransform, NotRendered, RenderFailure, RenderProblem};
pub use mode::Mode;
pub use pointer::{InvalidPointer, Pointer, overlap};
pub use render::{Rendered, Renderer};
pub use transform::{Program, Transform};

use serde::{Deserialize, Serialize};

use crate::select::filter::Filter;

/// What a Subscription wants of each event, and in which form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Payload {
    /// The form of the webhook. `None`: the one that the event was published in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The only fields of the data that are sent; all if there are none here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Pointer>,
    /// Fields of the data that are not sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Pointer>,
    /// What makes a new body of the event. The body takes the place of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
}

impl Payload {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the transform is an expression.
    pub(crate) fn has_expression(&self) -> bool {
        self.transform.as_ref().is_some_and(|transform| transform.program.is_expression())
    }
}

/// What the Producer withholds from a Subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PayloadPolicy {
    /// Fields of the data that the Subscription never gets. If there are any, data that isn't JSON is withheld whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Pointer>,
    /// Filters, all of which an event has to pass. They look at the whole event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

impl PayloadPolicy {
    /// Whether nothing is withheld.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exclude.is_empty() && self.filters.is_empty()
    }
}
