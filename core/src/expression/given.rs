//! Variables that are given one by one, for expressions that look at a part of an event.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::jmespath::Variable;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::attribute::{Attribute, OPTIONAL};
use super::cost::{Size, values};
use super::error::RunError;

/// The attributes and the data that an expression gets.
#[derive(Debug)]
pub struct Given<'a> {
    /// The attributes by their names.
    pub attributes: Vec<(&'a str, Attribute<'a>)>,
    /// The data.
    pub data: GivenData<'a>,
}

/// The data that an expression gets.
#[derive(Debug, Clone, Copy)]
pub enum GivenData<'a> {
    /// There is no data.
    None,
    /// JSON, which is parsed only if the expression looks at it.
    Json(&'a RawValue),
    /// Text.
    Text(&'a str),
    /// Neither JSON nor text: an expression that looks at it fails.
    Bytes,
}

impl Given<'_> {
    /// How much an expression can look at.
    #[must_use]
    pub fn size(&self, with_data: bool) -> Size {
        let data = match self.data {
            GivenData::Json(json) if with_data => json.get(),
            GivenData::Text(text) if with_data => text,
            _ => "",
        };
        let length = |(name, value): &(&str, Attribute<'_>)| {
            name.len() + if let Attribute::Text(text) = value { text.len() } else { 12 }
        };
        let attributes: usize = self.attributes.iter().map(length).sum();
        Size {
            bytes: attributes + data.len(),
            values: self.attributes.len() + OPTIONAL.len() + 1 + values(data.as_bytes()),
        }
    }

    /// The variables as one JSON object.
    pub(super) fn to_json(&self, with_data: bool) -> Result<Map<String, Value>, RunError> {
        let mut all: Map<String, Value> = OPTIONAL.map(|name| (name.to_owned(), Value::Null)).into_iter().collect();
        all.extend(self.attributes.iter().map(|(name, value)| ((*name).to_owned(), value.to_json())));
        if with_data {
            all.insert("data".to_owned(), self.data.read(Value::Null, |text| Value::String(text.to_owned()))?);
        }
        Ok(all)
    }

    /// The variables as one object of JMESPath.
    pub(super) fn to_jmespath(&self, with_data: bool) -> Result<Variable, RunError> {
        let mut all: BTreeMap<String, Arc<Variable>> =
            OPTIONAL.map(|name| (name.to_owned(), Arc::new(Variable::Null))).into_iter().collect();
        for (name, value) in &self.attributes {
            let value = match value {
                Attribute::Text(text) => Variable::String(text.to_string()),
                Attribute::Integer(number) => Variable::Number((*number).into()),
                Attribute::Boolean(value) => Variable::Bool(*value),
            };
            all.insert((*name).to_owned(), Arc::new(value));
        }
        if with_data {
            let data = self.data.read(Variable::Null, |text| Variable::String(text.to_owned()))?;
            all.insert("data".to_owned(), Arc::new(data));
        }
        Ok(Variable::Object(all))
    }
}

impl GivenData<'_> {
    fn read<T: serde::de::DeserializeOwned>(self, null: T, text: impl FnOnce(&str) -> T) -> Result<T, RunError> {
        match self {
            Self::None => Ok(null),
            Self::Json(json) => serde_json::from_str(json.get()).or(Err(RunError::NoJsonData)),
            Self::Text(value) => Ok(text(value)),
            Self::Bytes => Err(RunError::NoJsonData),
        }
    }
}
