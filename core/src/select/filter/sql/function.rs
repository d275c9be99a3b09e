//! The functions of the specification.

use std::borrow::Cow;

use super::value::{FALSE, Failure, NO_TEXT, Result, Value, ZERO, failed, to_bool, to_int};
use crate::expression::RunError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    Bool,
    Concat,
    ConcatWs,
    Int,
    IsBool,
    IsInt,
    Left,
    Length,
    Lower,
    Right,
    String,
    Substring,
    Trim,
    Upper,
}

impl Function {
    /// The function of this name, without regard to case, with this many arguments.
    pub(super) fn find(name: &str, arguments: usize) -> Option<Self> {
        Some(match (name.to_ascii_uppercase().as_str(), arguments) {
            ("ABS", 1) => Self::Abs,
            ("BOOL", 1) => Self::Bool,
            ("CONCAT", _) => Self::Concat,
            ("CONCAT_WS", 1..) => Self::ConcatWs,
            ("INT", 1) => Self::Int,
            ("IS_BOOL", 1) => Self::IsBool,
            ("IS_INT", 1) => Self::IsInt,
            ("LEFT", 2) => Self::Left,
            ("LENGTH", 1) => Self::Length,
            ("LOWER", 1) => Self::Lower,
            ("RIGHT", 2) => Self::Right,
            ("STRING", 1) => Self::String,
            ("SUBSTRING", 2 | 3) => Self::Substring,
            ("TRIM", 1) => Self::Trim,
            ("UPPER", 1) => Self::Upper,
            _ => return None,
        })
    }

    /// The zero value of the function's type.
    pub(super) fn zero(self) -> Value<'static> {
        match self {
            Self::Abs | Self::Int | Self::Length => ZERO,
            Self::Bool | Self::IsBool | Self::IsInt => FALSE,
            _ => NO_TEXT,
        }
    }

    pub(super) fn call(self, values: Vec<Value<'_>>) -> Result<'_> {
        let number = |value: &Value<'_>| to_int(value).map_err(|error| failed(self.zero(), error));
        let mut values = values.into_iter();
        let Some(first) = values.next() else { return Ok(NO_TEXT) };
        Ok(match self {
            Self::Abs => {
                let overflow = || failed(Value::Integer(i32::MAX), RunError::Math);
                Value::Integer(number(&first)?.checked_abs().ok_or_else(overflow)?)
            }
            Self::Int => Value::Integer(number(&first)?),
            Self::Bool => Value::Boolean(to_bool(&first).map_err(|error| failed(FALSE, error))?),
            Self::IsInt => Value::Boolean(to_int(&first).is_ok()),
            Self::IsBool => Value::Boolean(to_bool(&first).is_ok()),
            Self::String => Value::Text(first.into_text()),
            Self::Length => {
                let length = first.into_text().chars().count();
                Value::Integer(i32::try_from(length).map_err(|_| failed(ZERO, RunError::Math))?)
            }
            Self::Concat => Value::Text(Cow::Owned([first].into_iter().chain(values).map(Value::into_text).collect())),
            Self::ConcatWs => {
                Value::Text(Cow::Owned(values.map(Value::into_text).collect::<Vec<_>>().join(&first.into_text())))
            }
            Self::Lower => Value::Text(Cow::Owned(first.into_text().to_lowercase())),
            Self::Upper => Value::Text(Cow::Owned(first.into_text().to_uppercase())),
            Self::Trim => Value::Text(Cow::Owned(first.into_text().trim().to_owned())),
            Self::Left | Self::Right => {
                let text = first.into_text();
                let count = number(&values.next().unwrap_or(ZERO))?;
                let Ok(count) = usize::try_from(count) else {
                    return Err(failed(Value::Text(text), RunError::Function));
                };
                let start = if self == Self::Left { 0 } else { text.chars().count().saturating_sub(count) };
                Value::Text(Cow::Owned(text.chars().skip(start).take(count).collect()))
            }
            Self::Substring => {
                let position = number(&values.next().unwrap_or(ZERO))?;
                let length = values.next().map(|value| number(&value)).transpose()?;
                substring(&first.into_text(), position, length)?
            }
        })
    }
}

/// The part of a text from a position on, which is counted from 1, or from the end if it is negative.
fn substring(text: &str, position: i32, length: Option<i32>) -> std::result::Result<Value<'static>, Failure<'static>> {
    let outside = || failed(NO_TEXT, RunError::Function);
    if position == 0 {
        return Ok(NO_TEXT);
    }
    let characters = text.chars().count();
    let place = position.unsigned_abs() as usize;
    if place > characters {
        return Err(outside());
    }
    let start = if position > 0 { place - 1 } else { characters - place };
    let length = match length {
        Some(length) => usize::try_from(length).map_err(|_| outside())?,
        None => characters,
    };
    Ok(Value::Text(Cow::Owned(text.chars().skip(start).take(length).collect())))
}
