//! Reading and writing the durations and numbers of `delivery`.

use hookwright_core::delivery::millis::Millis;

use crate::{Duration, DurationOrZero};

/// Why a field of `delivery` can't be read. The API server admits no such object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A duration can't be read, or is zero.
    #[error("delivery.{field}: {text:?} can't be used as a duration")]
    Duration {
        /// The path of the field within `delivery`.
        field: &'static str,
        /// The text of the field.
        text: String,
    },
    /// A number is beyond its bounds.
    #[error("delivery.{field}: {number} is out of range")]
    Number {
        /// The path of the field within `delivery`.
        field: &'static str,
        /// The number in the field.
        number: i32,
    },
    /// The backoff lacks a field that its type requires.
    #[error("delivery.retry.backoff.{field} is required with type {kind}")]
    Missing {
        /// The name of the field within `retry.backoff`.
        field: &'static str,
        /// The type of backoff.
        kind: &'static str,
    },
}

/// Writes a span of time in the form of the Gateway API, such as `1h30m`.
pub(crate) fn text(Millis(millis): Millis) -> Duration {
    let parts =
        [(millis / 3_600_000, "h"), (millis / 60_000 % 60, "m"), (millis / 1000 % 60, "s"), (millis % 1000, "ms")];
    let parts = parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}"));
    Duration::new(parts.collect::<String>())
}

/// Writes a span of time that may be zero.
pub(crate) fn text_or_zero(span: Millis) -> DurationOrZero {
    if span == Millis(0) { DurationOrZero::new("0s") } else { DurationOrZero::new(text(span).as_str()) }
}

/// Reads a number above 0.
pub(crate) fn positive(field: &'static str, number: i32) -> Result<u32, PolicyError> {
    u32::try_from(number).ok().filter(|n| *n > 0).ok_or(PolicyError::Number { field, number })
}

/// Reads a duration above zero, if it is given.
pub(crate) fn given(field: &'static str, value: Option<&Duration>) -> Result<Option<Millis>, PolicyError> {
    value.map(|value| duration(field, value)).transpose()
}

/// Reads a duration that may be zero.
pub(crate) fn or_zero(field: &'static str, value: &DurationOrZero) -> Result<Millis, PolicyError> {
    let text = || value.to_string();
    value.to_std().map(Millis::from).ok_or_else(|| PolicyError::Duration { field, text: text() })
}

/// Reads a duration above zero.
pub(crate) fn duration(field: &'static str, value: &Duration) -> Result<Millis, PolicyError> {
    let read = value.to_std().filter(|duration| !duration.is_zero()).map(Millis::from);
    read.ok_or_else(|| PolicyError::Duration { field, text: value.to_string() })
}
