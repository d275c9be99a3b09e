//! The forms of a webhook.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::data::Data;
use super::failure::RenderProblem;
use super::parts::Parts;
use crate::event::attribute_value;

/// The form of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The data is the body, and the attributes are in `ce-*` headers.
    Binary,
    /// The body is a CloudEvent in the JSON format, which has attributes and data.
    Structured,
    /// The body is `{type, timestamp, data}`, as Standard Webhooks has it.
    Envelope,
}

/// The most attributes that a request may have: HTTP servers take about a hundred headers.
const MAX_ATTRIBUTES: usize = 64;

impl Mode {
    /// Writes headers and body in this form.
    pub(super) fn write(self, parts: &Parts<'_>) -> Result<(HeaderMap, Bytes), RenderProblem> {
        match self {
            Self::Binary => binary(parts),
            _ if parts.encoding.is_some() => Err(RenderProblem::Encoded),
            Self::Structured => Ok((only("application/cloudevents+json"), structured(parts).into())),
            Self::Envelope => Ok((only("application/json"), envelope(parts).into())),
        }
    }
}

fn only(content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers
}

fn binary(parts: &Parts<'_>) -> Result<(HeaderMap, Bytes), RenderProblem> {
    if parts.attributes.len() > MAX_ATTRIBUTES {
        return Err(RenderProblem::TooManyAttributes);
    }
    let mut headers = HeaderMap::with_capacity(16);
    if let Some(content_type) = parts.content_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    if let Some(encoding) = &parts.encoding {
        headers.insert(CONTENT_ENCODING, encoding.clone());
    }
    for attribute in &parts.attributes {
        if let Ok(name) = HeaderName::try_from(format!("ce-{}", attribute.name)) {
            headers.insert(name, attribute_value(&attribute.text));
        }
    }
    Ok((headers, Bytes::copy_from_slice(parts.data.as_bytes())))
}

fn structured(parts: &Parts<'_>) -> String {
    let mut object = Object::default();
    for attribute in &parts.attributes {
        match attribute.raw {
            Some(raw) => object.add(&attribute.name, raw.get()),
            None => object.add(&attribute.name, &quoted(&attribute.text)),
        }
    }
    if let Some(content_type) = &parts.content_type {
        object.add("datacontenttype", &quoted(content_type));
    }
    object.add_data(&parts.data);
    object.end()
}

fn envelope(parts: &Parts<'_>) -> String {
    let mut object = Object::default();
    for (name, attribute) in [("type", "type"), ("timestamp", "time")] {
        object.add(name, &quoted(parts.attribute(attribute).unwrap_or_default()));
    }
    if matches!(parts.data, Data::None) {
        object.add("data", "null");
    }
    object.add_data(&parts.data);
    object.end()
}

/// A JSON object that is written.
#[derive(Default)]
struct Object(String);

impl Object {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(value);
    }

    /// Adds the data as the CloudEvents JSON format has it (3.1.1): JSON as it is, text as a JSON string, bytes in base64.
    fn add_data(&mut self, data: &Data<'_>) {
        match data {
            Data::None => {}
            Data::Json(raw) => self.add("data", raw.get()),
            Data::Text(text) => self.add("data", &quoted(text)),
            Data::Bytes(bytes) => self.add("data_base64", &quoted(&STANDARD.encode(bytes))),
        }
    }

    fn end(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
