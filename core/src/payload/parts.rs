//! An event taken apart: its attributes and its data, whichever form it was published in.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use super::data::{Data, is_json};
use super::failure::RenderProblem;
use crate::event::structured::{Members, without_mark};
use crate::event::{Event, field_value};
use crate::expression::{self, Given, GivenData};

/// An event taken apart.
#[derive(Debug, Clone)]
pub(super) struct Parts<'a> {
    pub(super) event: &'a Event,
    /// The CloudEvents attributes besides `datacontenttype`.
    pub(super) attributes: Vec<Attribute<'a>>,
    /// The attribute `datacontenttype`.
    pub(super) content_type: Option<Cow<'a, str>>,
    /// How the data is compressed, if it is.
    pub(super) encoding: Option<HeaderValue>,
    pub(super) data: Data<'a>,
}

/// An attribute of an event.
#[derive(Debug, Clone)]
pub(super) struct Attribute<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) text: Cow<'a, str>,
    /// The value as the structured event has it, which may be a number or a boolean.
    pub(super) raw: Option<&'a RawValue>,
}

impl Attribute<'_> {
    /// The value as an expression sees it: an integer or a boolean, if the structured event has it so.
    fn value(&self) -> expression::Attribute<'_> {
        match self.raw.map(RawValue::get) {
            Some("true") => expression::Attribute::Boolean(true),
            Some("false") => expression::Attribute::Boolean(false),
            raw => match raw.and_then(|number| number.parse().ok()) {
                Some(number) => expression::Attribute::Integer(number),
                None => expression::Attribute::Text(Cow::Borrowed(&self.text)),
            },
        }
    }
}

impl<'a> Parts<'a> {
    /// Takes an event apart.
    ///
    /// # Errors
    /// If the body says that it is a structured CloudEvent and can't be read as one.
    pub(super) fn of(event: &'a Event) -> Result<Self, RenderProblem> {
        if event.stand_ins.is_some() { Self::structured(event) } else { Ok(Self::binary(event)) }
    }

    /// The attributes in the event's headers, or those that stand in for them, without the data.
    pub(super) fn bare(event: &'a Event) -> Self {
        let headers = event.stand_ins.as_deref().unwrap_or(&event.headers);
        let content_type = event.headers.get(CONTENT_TYPE).filter(|_| event.stand_ins.is_none());
        let content_type = content_type.and_then(text_of).map(Cow::Borrowed);
        Self { event, attributes: attributes(headers), content_type, encoding: None, data: Data::None }
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        if name == "datacontenttype" {
            return self.content_type.as_deref();
        }
        self.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| &*attribute.text)
    }

    /// The variables of a transform.
    pub(super) fn given(&self) -> Given<'_> {
        let mut attributes: Vec<_> =
            self.attributes.iter().map(|attribute| (&*attribute.name, attribute.value())).collect();
        let content_type = self.content_type.as_deref();
        attributes.extend(content_type.map(|text| ("datacontenttype", expression::Attribute::Text(text.into()))));
        let data = match &self.data {
            Data::None => GivenData::None,
            // What is borrowed is all of the event's data, as it was published. A part of it is owned.
            Data::Json(Cow::Borrowed(raw)) => GivenData::Whole(raw, self.event),
            Data::Json(Cow::Owned(raw)) => GivenData::Json(raw),
            Data::Text(text) => GivenData::Text(text),
            Data::Bytes(_) => GivenData::Bytes,
        };
        Given { attributes, data }
    }

    fn binary(event: &'a Event) -> Self {
        let content_type = event.headers.get(CONTENT_TYPE).and_then(text_of);
        let is_encoded = |value: &&HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
        let encoding = event.headers.get(CONTENT_ENCODING).filter(is_encoded).cloned();
        let data = match &encoding {
            None => Data::of(Cow::Borrowed(&event.body), content_type),
            Some(_) => Data::Bytes(Cow::Borrowed(&event.body)),
        };
        let content_type = content_type.map(Cow::Borrowed);
        Self { event, attributes: attributes(&event.headers), content_type, encoding, data }
    }

    fn structured(event: &'a Event) -> Result<Self, RenderProblem> {
        let Members(members) = serde_json::from_slice(without_mark(&event.body)).map_err(|error| no_object(&error))?;
        let mut attributes = event.stand_ins.as_deref().map(attributes).unwrap_or_default();
        let (mut data, mut base64, mut content_type) = (None, None, None);
        let (known, mut seen) = (attributes.len(), HashSet::with_capacity(members.len()));
        for (name, value) in members {
            let Ok(name) = serde_json::from_str::<String>(name.get()).map(Cow::from) else { continue };
            if !seen.insert(name.clone()) {
                return Err(broken("a name is in its body twice"));
            }
            match &*name {
                "data" => data = Some(value).filter(|value| value.get() != "null"),
                "data_base64" => base64 = text(value)?,
                "datacontenttype" => content_type = attribute(value)?.filter(|text| field_value(text).is_some()),
                // The event has the type that it was matched by.
                "type" => {}
                _ if is_attribute(&name) => {
                    if let Some(text) = attribute(value)? {
                        let attribute = Attribute { name, text, raw: Some(value) };
                        // Only what stands in for it can be there already.
                        match attributes[..known].iter_mut().find(|known| known.name == attribute.name) {
                            Some(stands_in) => *stands_in = attribute,
                            None => attributes.push(attribute),
                        }
                    }
                }
                // No reader takes it for an attribute.
                _ => {}
            }
        }
        let data = match (data, base64) {
            (Some(_), Some(_)) => return Err(broken("it has both data and data_base64")),
            (Some(value), None) => of_member(value, content_type.as_deref())?,
            (None, Some(text)) => {
                let bytes = STANDARD.decode(&*text).map_err(|_| broken("its data_base64 is not base64"))?;
                Data::of(Cow::Owned(bytes), Some(content_type.as_deref().unwrap_or_default()))
            }
            (None, None) => Data::None,
        };
        if content_type.is_none() && matches!(data, Data::Json(_)) {
            content_type = Some(Cow::Borrowed("application/json"));
        }
        Ok(Self { event, attributes, content_type, encoding: None, data })
    }
}

/// The member `data`: JSON, unless it is a text whose type says that it is something else (JSON format, 3.1.1).
fn of_member<'a>(value: &'a RawValue, content_type: Option<&str>) -> Result<Data<'a>, RenderProblem> {
    let is_text = value.get().starts_with('"') && content_type.is_some_and(|text| !is_json(text));
    if !is_text {
        return Ok(Data::Json(Cow::Borrowed(value)));
    }
    let text: String =
        serde_json::from_str(value.get()).map_err(|_| broken("its data is a text that is not Unicode"))?;
    Ok(if text.is_empty() { Data::None } else { Data::Text(Cow::Owned(text)) })
}

fn broken(why: &'static str) -> RenderProblem {
    RenderProblem::NotACloudEvent(why.into())
}

fn no_object(error: &serde_json::Error) -> RenderProblem {
    if error.is_data() {
        return broken("its body is no object");
    }
    // What the parser says of such an error has no part of the body.
    RenderProblem::NotACloudEvent(format!("its body can't be read as a JSON object: {error}").into())
}

/// The value of an attribute. An empty one counts as absent, as in a header.
fn attribute(value: &RawValue) -> Result<Option<Cow<'_, str>>, RenderProblem> {
    Ok(text(value)?.filter(|text| !text.is_empty()))
}

/// The value of a member as an attribute has it: a text, a number or a boolean. `None` for `null` and what no attribute
/// can be.
fn text(value: &RawValue) -> Result<Option<Cow<'_, str>>, RenderProblem> {
    let written = value.get();
    match written.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(written)
            .map(|text| Some(Cow::from(text)))
            .map_err(|_| broken("an attribute in it is not Unicode")),
        Some(b'n' | b'{' | b'[') | None => Ok(None),
        Some(_) => Ok(Some(Cow::Borrowed(written))),
    }
}

/// Whether a name may be that of an attribute: lower-case letters and digits.
fn is_attribute(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn text_of(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

/// The attributes in `ce-*` headers, in their order.
fn attributes(headers: &HeaderMap) -> Vec<Attribute<'_>> {
    let mut found = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix("ce-")
            && let Some(text) = text_of(value)
        {
            let text = percent_decode_str(text).decode_utf8_lossy();
            found.push(Attribute { name: name.into(), text, raw: None });
        }
    }
    found
}
