//! An attribute of an event, as expressions see it.

use std::borrow::Cow;

use serde_json::Value;

/// The variables that are there in every dialect, though an event may not have them: they are null then.
pub(super) const OPTIONAL: [&str; 3] = ["subject", "time", "data"];

/// An attribute of an event. Only structured CloudEvents have attributes that are not text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// Text, as which URIs and times count, too.
    Text(Cow<'a, str>),
    /// An integer.
    Integer(i32),
    /// True or false.
    Boolean(bool),
}

impl<'a> Attribute<'a> {
    pub(super) fn of_json(value: &'a Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Attribute::Text(Cow::Borrowed(text))),
            Value::Bool(value) => Some(Attribute::Boolean(*value)),
            Value::Number(number) => match number.as_i64().and_then(|number| i32::try_from(number).ok()) {
                Some(number) => Some(Attribute::Integer(number)),
                None => Some(Attribute::Text(Cow::Owned(number.to_string()))),
            },
            _ => None,
        }
    }

    /// The attribute as text: how it goes out in a header.
    #[must_use]
    pub fn into_text(self) -> Cow<'a, str> {
        match self {
            Attribute::Text(text) => text,
            Attribute::Integer(number) => Cow::Owned(number.to_string()),
            Attribute::Boolean(value) => Cow::Owned(value.to_string()),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Attribute::Text(text) => Value::String(text.to_string()),
            Attribute::Integer(number) => (*number).into(),
            Attribute::Boolean(value) => (*value).into(),
        }
    }
}
