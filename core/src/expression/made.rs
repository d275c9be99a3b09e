//! The value of an expression, which becomes JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::cel::Value;
use ::jmespath::Variable;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Error, Serialize, Serializer};

/// The value of an expression. As JSON, the members of an object are in the order of their names, so that the same event
/// makes the same text each time.
#[derive(Debug)]
pub struct Made(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    Jmespath(Arc<Variable>),
    Cel(Value),
}

impl Made {
    /// Whether the value is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        match &self.0 {
            Kind::Jmespath(value) => value.is_null(),
            Kind::Cel(value) => matches!(value, Value::Null),
        }
    }

    /// The text, if the value is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Kind::Jmespath(value) => value.as_string().map(String::as_str),
            Kind::Cel(Value::String(text)) => Some(text),
            Kind::Cel(_) => None,
        }
    }
}

impl Serialize for Made {
    /// Fails for what JSON doesn't have: a function, an infinite number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Kind::Jmespath(value) => OfJmespath(value).serialize(serializer),
            Kind::Cel(value) => OfCel(value).serialize(serializer),
        }
    }
}

struct OfJmespath<'a>(&'a Variable);

impl Serialize for OfJmespath<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Variable::Null => serializer.serialize_unit(),
            Variable::String(text) => serializer.serialize_str(text),
            Variable::Bool(value) => serializer.serialize_bool(*value),
            Variable::Number(number) => number.serialize(serializer),
            Variable::Array(list) => serializer.collect_seq(list.iter().map(|value| OfJmespath(value))),
            Variable::Object(map) => serializer.collect_map(map.iter().map(|(name, value)| (name, OfJmespath(value)))),
            Variable::Expref(_) => Err(S::Error::custom("an expression is no value")),
        }
    }
}

struct OfCel<'a>(&'a Value);

impl Serialize for OfCel<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::String(text) => serializer.serialize_str(text),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::UInt(number) => serializer.serialize_u64(*number),
            Value::Float(number) if number.is_finite() => serializer.serialize_f64(*number),
            // As CEL has it, bytes are base64 in JSON.
            Value::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(&**bytes)),
            Value::List(list) => serializer.collect_seq(list.iter().map(OfCel)),
            Value::Map(map) => {
                let sorted: BTreeMap<String, OfCel<'_>> =
                    map.map.iter().map(|(name, value)| (name.to_string(), OfCel(value))).collect();
                serializer.collect_map(sorted)
            }
            _ => Err(S::Error::custom("JSON has no such value")),
        }
    }
}
