//! Values, errors that have a value nevertheless, and casts.

use std::borrow::Cow;

use crate::expression::{Attribute, RunError};

/// The values of expressions are those of attributes.
pub(super) type Value<'a> = Attribute<'a>;

/// An error, with the value that the expression has nevertheless.
#[derive(Debug)]
pub(super) struct Failure<'a> {
    pub(super) value: Value<'a>,
    pub(super) error: RunError,
}

pub(super) type Result<'a> = std::result::Result<Value<'a>, Failure<'a>>;

/// The zero values of the types.
pub(super) const NO_TEXT: Value<'static> = Value::Text(Cow::Borrowed(""));
pub(super) const ZERO: Value<'static> = Value::Integer(0);
pub(super) const FALSE: Value<'static> = Value::Boolean(false);

pub(super) fn failed<'a>(value: Value<'a>, error: RunError) -> Failure<'a> {
    Failure { value, error }
}

pub(super) fn to_bool(value: &Value<'_>) -> std::result::Result<bool, RunError> {
    match value {
        Value::Boolean(value) => Ok(*value),
        Value::Integer(number) => Ok(*number != 0),
        Value::Text(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::Text(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Value::Text(_) => Err(RunError::Cast),
    }
}

pub(super) fn to_int(value: &Value<'_>) -> std::result::Result<i32, RunError> {
    match value {
        Value::Integer(number) => Ok(*number),
        Value::Boolean(value) => Ok(i32::from(*value)),
        Value::Text(text) => text.parse().map_err(|_| RunError::Cast),
    }
}

pub(super) fn cast_like<'a>(value: Value<'a>, target: &Value<'_>) -> std::result::Result<Value<'a>, RunError> {
    match target {
        Value::Text(_) => Ok(Value::Text(value.into_text())),
        Value::Integer(_) => to_int(&value).map(Value::Integer),
        Value::Boolean(_) => to_bool(&value).map(Value::Boolean),
    }
}

/// The result of a part of an expression that has this zero value, if the part failed.
pub(super) fn typed<'a>(zero: Value<'static>, result: Result<'a>) -> Result<'a> {
    result.map_err(|failure| failed(zero, failure.error))
}
