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
    pub(super) fn write(self, parts: Parts<'_>) -> Result<(HeaderMap, Bytes), RenderProblem> {
        match self {
            Self::Binary => binary(parts),
            _ if parts.encoding.is_some() => Err(RenderProblem::Encoded),
            Self::Structured => Ok((only("application/cloudevents+json"), structured(&parts).into())),
            Self::Envelope => Ok((only("application/json"), envelope(&parts).into())),
        }
    }
}

fn only(content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers
}

fn binary(parts: Parts<'_>) -> Result<(HeaderMap, Bytes), RenderProblem> {
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
    Ok((headers, parts.data.into_bytes()))
}

fn structured(parts: &Parts<'_>) -> Vec<u8> {
    let mut object = Object::with_room_for(&parts.data);
    for attribute in &parts.attributes {
        match attribute.raw {
            Some(raw) => object.add(&attribute.name, raw.get()),
            None => object.add_text(&attribute.name, &attribute.text),
        }
    }
    if let Some(content_type) = &parts.content_type {
        object.add_text("datacontenttype", content_type);
    }
    object.add_data(&parts.data);
    object.end()
}

fn envelope(parts: &Parts<'_>) -> Vec<u8> {
    let mut object = Object::with_room_for(&parts.data);
    for (name, attribute) in [("type", "type"), ("timestamp", "time")] {
        object.add_text(name, parts.attribute(attribute).unwrap_or_default());
    }
    if matches!(parts.data, Data::None) {
        object.add("data", "null");
    }
    object.add_data(&parts.data);
    object.end()
}

/// About how many bytes an object has beside the data.
const BESIDE_DATA: usize = 512;

/// A JSON object that is written.
struct Object(Vec<u8>);

impl Object {
    fn with_room_for(data: &Data<'_>) -> Self {
        let length = data.as_bytes().len();
        // Bytes become longer in base64.
        let length = if matches!(data, Data::Bytes(_)) { length / 3 * 4 } else { length };
        Self(Vec::with_capacity(length + BESIDE_DATA))
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.text(name);
        self.0.push(b':');
    }

    /// Writes a JSON string.
    fn text(&mut self, text: &str) {
        let written = serde_json::to_writer(&mut self.0, text);
        debug_assert!(written.is_ok(), "nothing is wrong with a text, nor with memory");
    }

    /// Adds a member whose value is JSON.
    fn add(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.extend_from_slice(json.as_bytes());
    }

    fn add_text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.text(text);
    }

    /// Adds the data as the CloudEvents JSON format has it (3.1.1): JSON as it is, text as a JSON string, bytes in base64.
    fn add_data(&mut self, data: &Data<'_>) {
        match data {
            Data::None => {}
            Data::Json(raw) => self.add("data", raw.get()),
            Data::Text(text) => self.add_text("data", text),
            Data::Bytes(bytes) => self.add_text("data_base64", &STANDARD.encode(bytes)),
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(if self.0.is_empty() { b"{}" } else { b"}" });
        self.0
    }
}
