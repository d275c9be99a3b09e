//! What an expression sees of an event: its attributes and, parsed at most once and only if an expression looks at it,
//! its data.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use ::cel::Context;
use ::jmespath::Variable;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::attribute::{Attribute, OPTIONAL};
use super::cel;
use super::cost::{Size, values};
use super::error::RunError;
use crate::event::Event;
use crate::event::structured::without_mark;

/// The variables of an event. Expressions of all dialects, of any number of Subscriptions, share what one of them had
/// parsed.
pub struct Variables<'a> {
    event: &'a Event,
    /// The attributes of an event that is not structured, in the order of their names. `type` is not among them.
    headers: OnceCell<Vec<Header<'a>>>,
    /// The body of a structured CloudEvent.
    structured: OnceCell<Map<String, Value>>,
    /// The data, unless the structured body has it.
    data: OnceCell<Result<Value, RunError>>,
    /// The number of JSON values in the body, at most.
    values: OnceCell<usize>,
    /// What expressions of the dialects look at, without and with the data.
    jmespath: [OnceCell<Result<Arc<Variable>, RunError>>; 2],
    cel: [OnceCell<Result<Box<Context<'static, 'static>>, RunError>>; 2],
}

/// An attribute in a header, decoded when an expression looks at it.
struct Header<'a> {
    name: &'a str,
    value: &'a HeaderValue,
    text: OnceCell<Option<Cow<'a, str>>>,
}

impl<'a> Variables<'a> {
    /// The variables of an event.
    #[must_use]
    pub fn of(event: &'a Event) -> Self {
        Self {
            event,
            headers: OnceCell::new(),
            structured: OnceCell::new(),
            data: OnceCell::new(),
            values: OnceCell::new(),
            jmespath: Default::default(),
            cel: Default::default(),
        }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &'a Event {
        self.event
    }

    /// An attribute by its name, which is in lower case; `None` if the event doesn't have it. The type is that which the
    /// Producer says it is.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Attribute<'_>> {
        if name == "type" {
            return Some(Attribute::Text(Cow::Borrowed(&self.event.event_type)));
        }
        if self.event.is_structured() {
            return self.structured().get(name).filter(|_| !is_data(name)).and_then(Attribute::of_json);
        }
        let headers = self.headers();
        let header = headers.get(headers.partition_point(|header| header.name < name))?;
        if header.name != name {
            return None;
        }
        let decoded = || Some(percent_decode_str(header.value.to_str().ok()?).decode_utf8_lossy());
        header.text.get_or_init(decoded).as_deref().map(|text| Attribute::Text(Cow::Borrowed(text)))
    }

    fn headers(&self) -> &[Header<'a>] {
        self.headers.get_or_init(|| {
            let named = |(name, value): (&'a HeaderName, &'a HeaderValue)| {
                let name = match name.as_str().strip_prefix("ce-") {
                    Some("type" | "datacontenttype") => return None,
                    Some(name) if is_data(name) => return None,
                    None if name == CONTENT_TYPE => "datacontenttype",
                    name => name?,
                };
                Some(Header { name, value, text: OnceCell::new() })
            };
            let mut headers: Vec<_> = self.event.headers.iter().filter_map(named).collect();
            // Of several of one name, the first stays the first.
            headers.sort_by_key(|header| header.name);
            headers
        })
    }

    /// The data as JSON: null if the event has none.
    ///
    /// # Errors
    /// If the data is not JSON.
    pub fn data(&self) -> Result<&Value, RunError> {
        if self.event.is_structured()
            && let Some(data) = self.structured().get("data")
        {
            return Ok(data);
        }
        self.data.get_or_init(|| self.parsed()).as_ref().map_err(|error| *error)
    }

    fn parsed(&self) -> Result<Value, RunError> {
        let encoded = match self.structured().get("data_base64") {
            Some(Value::String(text)) => {
                Some(data_encoding::BASE64.decode(text.as_bytes()).or(Err(RunError::NoJsonData))?)
            }
            _ => None,
        };
        let body = match &encoded {
            Some(bytes) => bytes,
            None if self.event.is_structured() => return Ok(Value::Null),
            None => self.event.body.as_ref(),
        };
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(without_mark(body)).or(Err(RunError::NoJsonData))
    }

    /// The attributes and the data as one JSON object. What is there in every dialect, though an event may not have it,
    /// is null.
    ///
    /// # Errors
    /// If the data is asked for and is not JSON.
    pub fn to_json(&self, with_data: bool) -> Result<Map<String, Value>, RunError> {
        let mut all: Map<String, Value> = OPTIONAL.map(|name| (name.to_owned(), Value::Null)).into_iter().collect();
        let names: Vec<&str> = if self.event.is_structured() {
            self.structured().keys().map(String::as_str).collect()
        } else {
            self.headers().iter().map(|header| header.name).collect()
        };
        for name in names.into_iter().chain(["type"]) {
            if let Some(attribute) = self.attribute(name) {
                all.insert(name.to_owned(), attribute.to_json());
            }
        }
        if with_data {
            all.insert("data".to_owned(), self.data()?.clone());
        }
        Ok(all)
    }

    pub(super) fn jmespath(&self, with_data: bool) -> Result<&Arc<Variable>, RunError> {
        let made = self.jmespath[usize::from(with_data)].get_or_init(|| {
            let all = self.to_json(with_data)?;
            Variable::from_serializable(all).map(Arc::new).map_err(|_| RunError::Internal)
        });
        made.as_ref().map_err(|error| *error)
    }

    pub(super) fn cel(&self, with_data: bool) -> Result<&Context<'static, 'static>, RunError> {
        let made =
            self.cel[usize::from(with_data)].get_or_init(|| self.to_json(with_data).map(cel::context).map(Box::new));
        made.as_deref().map_err(|error| *error)
    }

    /// How much an expression can look at.
    #[must_use]
    pub fn size(&self, with_data: bool) -> Size {
        let headers = &self.event.headers;
        let attributes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let mut size = Size { bytes: attributes + self.event.event_type.len(), values: headers.len() + 4 };
        if with_data || self.event.is_structured() {
            size.bytes += self.event.body.len();
            size.values += *self.values.get_or_init(|| values(&self.event.body));
        }
        size
    }

    fn structured(&self) -> &Map<String, Value> {
        self.structured.get_or_init(|| {
            if self.event.is_structured() {
                serde_json::from_slice(without_mark(&self.event.body)).unwrap_or_default()
            } else {
                Map::new()
            }
        })
    }
}

fn is_data(name: &str) -> bool {
    matches!(name, "data" | "data_base64")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn event(headers: &[(&str, &str)], body: &str) -> Event {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let headers: HeaderMap = headers.iter().map(pair).collect();
        Event { event_type: "t.a".into(), headers, body: Bytes::copy_from_slice(body.as_bytes()), stand_ins: None }
    }

    #[test]
    fn attributes_and_data_in_both_modes() {
        let binary =
            [("ce-type", "other"), ("ce-tenantid", "x%20y"), ("ce-n", "3"), ("content-type", "application/json")];
        let binary = event(&binary, r#"{"total":5}"#);
        let body = r#"{"specversion":"1.0","type":"other","tenantid":"x y","n":3,"big":9999999999,"b":true,"o":{},"data":{"total":5}}"#;
        let structured = event(&[("content-type", "application/cloudevents+json")], body);
        for event in [&binary, &structured] {
            let variables = Variables::of(event);
            let text = |name| variables.attribute(name).map(Attribute::into_text);
            assert_eq!(text("type").as_deref(), Some("t.a"), "the type that was matched");
            assert_eq!(text("tenantid").as_deref(), Some("x y"));
            assert_eq!(text("n").as_deref(), Some("3"));
            for absent in ["subject", "o", "data"] {
                assert_eq!(text(absent), None, "{absent}");
            }
            assert_eq!(variables.data().unwrap()["total"], 5);
            let all = variables.to_json(true).unwrap();
            assert_eq!((&all["subject"], &all["tenantid"], &all["type"]), (&Value::Null, &"x y".into(), &"t.a".into()));
        }
        for odd in [event(&[("ce-data", "x"), ("ce-type", "x")], ""), event(&[("ce-datacontenttype", "x")], "")] {
            let variables = Variables::of(&odd);
            assert!(["data", "datacontenttype"].iter().all(|name| variables.attribute(name).is_none()));
            let all = variables.to_json(false).unwrap();
            assert_eq!((&all["data"], &all["type"], all.get("datacontenttype")), (&Value::Null, &"t.a".into(), None));
        }
        let variables = Variables::of(&structured);
        assert_eq!(variables.attribute("n"), Some(Attribute::Integer(3)));
        assert_eq!(variables.attribute("b"), Some(Attribute::Boolean(true)));
        assert_eq!(variables.attribute("big").map(Attribute::into_text).as_deref(), Some("9999999999"));
    }

    #[test]
    fn data_that_is_not_there_or_not_json() {
        let json = [("content-type", "application/json")];
        let structured = [("content-type", "application/cloudevents+json")];
        for (headers, body, want) in [
            (&json[..], "", Ok(Value::Null)),
            (&json[..], "{", Err(RunError::NoJsonData)),
            (&[][..], "text", Err(RunError::NoJsonData)),
            (&structured[..], "{}", Ok(Value::Null)),
            (&structured[..], r#"{"data_base64":"eyJhIjoxfQ=="}"#, Ok(serde_json::json!({"a": 1}))),
            (&structured[..], r#"{"data_base64":"?"}"#, Err(RunError::NoJsonData)),
        ] {
            assert_eq!(Variables::of(&event(headers, body)).data().cloned(), want, "{body}");
        }
    }
}
