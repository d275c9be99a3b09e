//! Variables that are given one by one, for expressions that look at a part of an event.

use std::sync::Arc;

use ::cel::Context;
use ::jmespath::Variable;
use serde_json::Value;
use serde_json::value::RawValue;

use super::attribute::{Attribute, OPTIONAL};
use super::cost::{Size, values};
use super::error::RunError;
use super::parsed::Parsed;
use super::{cel_context, jmespath_object};
use crate::event::Event;

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
    /// JSON, which is all of the data of an event. What was parsed of the event is used.
    Whole(&'a RawValue, &'a Event),
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
            GivenData::Json(json) | GivenData::Whole(json, _) if with_data => json.get(),
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

    /// The variables as CEL takes them.
    pub(super) fn cel(&self, with_data: bool) -> Result<Context<'static, 'static>, RunError> {
        let (whole, read);
        let data = match self.data {
            GivenData::Whole(_, event) if with_data => {
                whole = Parsed::of(event);
                Some(whole.data()?)
            }
            data if with_data => {
                read = data.read(Value::Null, |text| Value::String(text.to_owned()))?;
                Some(&read)
            }
            _ => None,
        };
        Ok(cel_context::context(&self.attributes, data))
    }

    /// The variables as JMESPath takes them.
    pub(super) fn jmespath(&self, with_data: bool) -> Result<Variable, RunError> {
        let data = match self.data {
            GivenData::Whole(_, event) if with_data => Some(Parsed::of(event).jmespath()?),
            data if with_data => Some(Arc::new(data.read(Variable::Null, |text| Variable::String(text.to_owned()))?)),
            _ => None,
        };
        Ok(jmespath_object::object(&self.attributes, data))
    }
}

impl GivenData<'_> {
    fn read<T: serde::de::DeserializeOwned>(self, null: T, text: impl FnOnce(&str) -> T) -> Result<T, RunError> {
        match self {
            Self::None => Ok(null),
            Self::Json(json) | Self::Whole(json, _) => serde_json::from_str(json.get()).or(Err(RunError::NoJsonData)),
            Self::Text(value) => Ok(text(value)),
            Self::Bytes => Err(RunError::NoJsonData),
        }
    }
}
