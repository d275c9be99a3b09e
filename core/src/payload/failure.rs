//! Why a webhook can't be made of an event.

use std::borrow::Cow;
use std::fmt;

use crate::select::filter::InvalidFilter;

/// Why a webhook can't be made of an event: where in the Subscription's spec, and what is wrong. It names no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RenderFailure {
    /// The field of the Subscription's spec, such as `payload.exclude`.
    pub place: String,
    /// What is wrong.
    pub problem: RenderProblem,
}

impl fmt::Display for RenderFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.problem.name(), self.problem)
    }
}

impl From<RenderFailure> for NotRendered {
    fn from(failure: RenderFailure) -> Self {
        Self::Failed(failure)
    }
}

impl RenderFailure {
    pub(super) fn at(place: &str) -> impl FnOnce(RenderProblem) -> Self {
        let place = place.to_owned();
        move |problem| Self { place, problem }
    }
}

/// Why there is no webhook of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRendered {
    /// The Producer forbids it.
    Forbidden(Forbidden),
    /// It can't be made.
    Failed(RenderFailure),
}

/// A policy of the Producer forbids that the Subscription gets an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden {
    /// Whether nothing is known: the evaluation failed, or would take too long.
    pub failed: bool,
}

/// Why a transform can't be used, and where in `payload.transform` the problem is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("payload.transform.{place}: {problem}")]
pub struct InvalidTransform {
    /// The field, and the line of a template if the problem is in one.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

/// Why what a record says of payloads can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPayload {
    /// The transform.
    #[error(transparent)]
    Transform(#[from] InvalidTransform),
    /// A filter of the Producer.
    #[error("payloadPolicies: {0}")]
    Policy(#[from] InvalidFilter),
}

/// What is wrong with an event for a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderProblem {
    /// The data isn't JSON, and fields of it were asked for.
    #[error("the event's data is not JSON")]
    NotJson,
    /// The body is no structured CloudEvent that can be taken apart.
    #[error("the event was published in structured mode, and {0}")]
    NotACloudEvent(Cow<'static, str>),
    /// The data is compressed, which only the mode Binary can say.
    #[error("the event's data has a content-encoding, which only mode Binary can send")]
    Encoded,
    /// The transform uses a variable or a field that the event lacks.
    #[error("the event has no such field")]
    Undefined,
    /// The transform does what can't be done with this event's values.
    #[error("this can't be done with the event's values")]
    InvalidOperation,
    /// A transform, or the choice of fields, does more than it may.
    #[error("it takes too many steps, or too much memory, for this event")]
    TooExpensive,
    /// The transform makes a body that is too large.
    #[error("the body is larger than 1 MiB")]
    TooLarge,
    /// The content type says JSON, and what the transform makes isn't.
    #[error("the result is not JSON")]
    ResultNotJson,
    /// The event has more attributes than HTTP receivers take as headers.
    #[error("the event has more than 64 attributes")]
    TooManyAttributes,
    /// The event's attributes are longer, as headers, than an event has to be that is forwarded.
    #[error("the event's attributes take more than 64 KiB of headers")]
    AttributesTooLarge,
}

impl RenderProblem {
    /// The name of the kind.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotJson => "NotJson",
            Self::NotACloudEvent(_) => "NotACloudEvent",
            Self::Encoded => "Encoded",
            Self::Undefined => "Undefined",
            Self::InvalidOperation => "InvalidOperation",
            Self::TooExpensive => "TooExpensive",
            Self::TooLarge => "TooLarge",
            Self::ResultNotJson => "ResultNotJson",
            Self::TooManyAttributes => "TooManyAttributes",
            Self::AttributesTooLarge => "AttributesTooLarge",
        }
    }
}
