//! What an expression sees of an event: its attributes and, parsed at most once and only if an expression looks at it,
//! its data.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use ::cel::Context;
use ::jmespath::Variable;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::attribute::Attribute;
use super::cost::{Cost, Size, values};
use super::error::RunError;
use super::parsed::Parsed;
use super::{cel_context, jmespath_object};
use crate::event::Event;

/// The variables of an event. Expressions of all dialects, of any number of Subscriptions, share what one of them had
/// parsed.
pub struct Variables<'a> {
    event: &'a Event,
    is_structured: bool,
    /// The attributes of an event that is not structured, in the order of their names. `type` is not among them.
    headers: OnceCell<Vec<Header<'a>>>,
    parsed: OnceCell<Arc<Parsed>>,
    /// How much expressions can look at, without and with the body.
    sizes: [OnceCell<Size>; 2],
    /// What expressions of the dialects look at, without and with the data.
    jmespath: [OnceCell<Result<Arc<Variable>, RunError>>; 2],
    cel: [OnceCell<Result<Box<Context<'static, 'static>>, RunError>>; 2],
}

/// The attributes that each event has, and the headers of those that stand in for what a structured CloudEvent lacks.
const STAND_INS: [(&str, &str); 4] =
    [("specversion", "ce-specversion"), ("id", "ce-id"), ("source", "ce-source"), ("time", "ce-time")];

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
            is_structured: event.is_structured(),
            headers: OnceCell::new(),
            parsed: OnceCell::new(),
            sizes: Default::default(),
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
        if self.is_structured {
            let published = self.parsed().attributes().get(name).and_then(Attribute::of_json);
            return published.or_else(|| self.stand_in(name));
        }
        let headers = self.headers();
        let header = headers.get(headers.partition_point(|header| header.name < name))?;
        if header.name != name {
            return None;
        }
        let decoded = || Some(percent_decode_str(header.value.to_str().ok()?).decode_utf8_lossy());
        header.text.get_or_init(decoded).as_deref().map(|text| Attribute::Text(Cow::Borrowed(text)))
    }

    /// An attribute that stands in for one that the body of a structured CloudEvent lacks.
    fn stand_in(&self, name: &str) -> Option<Attribute<'_>> {
        let header = STAND_INS.iter().find(|(known, _)| *known == name)?.1;
        let value = self.event.stand_ins.as_ref()?.get(header)?.to_str().ok()?;
        Some(Attribute::Text(percent_decode_str(value).decode_utf8_lossy()))
    }

    fn headers(&self) -> &[Header<'a>] {
        self.headers.get_or_init(|| {
            let named = |(name, value): (&'a HeaderName, &'a HeaderValue)| {
                let name = match name.as_str().strip_prefix("ce-") {
                    Some("type" | "datacontenttype" | "data" | "data_base64") => return None,
                    None if name == CONTENT_TYPE => "datacontenttype",
                    name => name?,
                };
                Some(Header { name, value, text: OnceCell::new() })
            };
            let mut headers = Vec::with_capacity(self.event.headers.len());
            headers.extend(self.event.headers.iter().filter_map(named));
            // If several have one name, the first one counts.
            headers.sort_by_key(|header| header.name);
            headers.dedup_by_key(|header| header.name);
            headers
        })
    }

    fn parsed(&self) -> &Parsed {
        self.parsed.get_or_init(|| Parsed::of(self.event))
    }

    /// The data as JSON: null if the event has none.
    ///
    /// # Errors
    /// If the data is not JSON.
    pub fn data(&self) -> Result<&Value, RunError> {
        self.parsed().data()
    }

    /// The names of the attributes that the event may have, each once.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = if self.is_structured {
            let published = self.parsed().attributes();
            let stand_ins = STAND_INS.map(|(name, _)| name).into_iter();
            let lacking = stand_ins.filter(|name| !published.contains_key(*name));
            published.keys().map(String::as_str).filter(|name| *name != "type").chain(lacking).collect()
        } else {
            self.headers().iter().map(|header| header.name).collect()
        };
        names.push("type");
        names
    }

    /// A number that the names are no more than.
    pub(crate) fn count(&self) -> usize {
        let published = if self.is_structured { self.parsed().attributes().len() } else { self.headers().len() };
        published + STAND_INS.len() + 1
    }

    /// All attributes, with their names.
    fn attributes(&self) -> Vec<(&str, Attribute<'_>)> {
        self.names().into_iter().filter_map(|name| Some((name, self.attribute(name)?))).collect()
    }

    pub(super) fn jmespath(&self, with_data: bool) -> Result<&Arc<Variable>, RunError> {
        let made = self.jmespath[usize::from(with_data)].get_or_init(|| {
            let data = with_data.then(|| self.parsed().jmespath()).transpose()?;
            Ok(Arc::new(jmespath_object::object(&self.attributes(), data)))
        });
        made.as_ref().map_err(|error| *error)
    }

    pub(super) fn cel(&self, with_data: bool) -> Result<&Context<'static, 'static>, RunError> {
        let made = self.cel[usize::from(with_data)].get_or_init(|| {
            let data = with_data.then(|| self.data()).transpose()?;
            Ok(Box::new(cel_context::context(&self.attributes(), data)))
        });
        made.as_deref().map_err(|error| *error)
    }

    /// How much an expression can look at. To find out takes the event apart, but does not parse its data.
    #[must_use]
    pub fn size(&self, with_data: bool) -> Size {
        *self.sizes[usize::from(with_data)].get_or_init(|| {
            let Event { event_type, headers, body, .. } = self.event;
            let attributes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            let mut size = Size { bytes: attributes + event_type.len(), values: headers.len() + 4 };
            if self.is_structured {
                let attributes = self.parsed().attributes();
                let length = |(name, value): (&String, &Value)| name.len() + value.as_str().map_or(24, str::len);
                size.bytes += attributes.iter().map(length).sum::<usize>();
                size.values += attributes.len();
            }
            if with_data && self.is_structured {
                let data = self.parsed().size();
                size = Size { bytes: size.bytes + data.bytes, values: size.values + data.values };
            } else if with_data {
                size = Size { bytes: size.bytes + body.len(), values: size.values + values(body) };
            }
            size
        })
    }

    /// The cost of reading what an expression looks at.
    #[must_use]
    pub fn cost_of_reading(&self, with_data: bool) -> Cost {
        match (with_data, self.is_structured) {
            (true, _) => Cost::of_parsing(&self.event.body),
            // What isn't looked at is passed over.
            (false, true) => Cost(self.event.body.len() as u64),
            (false, false) => Cost::default(),
        }
    }
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
        Event::new("t.a", headers, Bytes::copy_from_slice(body.as_bytes()))
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
            let all = serde_json::to_value(&**variables.jmespath(true).unwrap()).unwrap();
            assert_eq!((&all["subject"], &all["tenantid"], &all["type"]), (&Value::Null, &"x y".into(), &"t.a".into()));
        }
        for odd in [event(&[("ce-data", "x"), ("ce-type", "x")], ""), event(&[("ce-datacontenttype", "x")], "")] {
            let variables = Variables::of(&odd);
            assert!(["data", "datacontenttype"].iter().all(|name| variables.attribute(name).is_none()));
            let all = serde_json::to_value(&**variables.jmespath(false).unwrap()).unwrap();
            assert_eq!((&all["data"], &all["type"], all.get("datacontenttype")), (&Value::Null, &"t.a".into(), None));
        }
        let variables = Variables::of(&structured);
        assert_eq!(variables.attribute("n"), Some(Attribute::Integer(3)));
        assert_eq!(variables.attribute("b"), Some(Attribute::Boolean(true)));
        assert_eq!(variables.attribute("big").map(Attribute::into_text).as_deref(), Some("9999999999"));
    }

    #[test]
    fn each_name_once() {
        let headers = [("ce-id", "1"), ("ce-tenantid", "a"), ("ce-type", "x"), ("content-type", "text/plain")];
        let mut binary = event(&headers, "");
        binary.headers.append("ce-tenantid", HeaderValue::from_static("b"));
        let body = r#"{"id":null,"type":"x","tenantid":"a","o":{}}"#;
        let structured = event(&[("content-type", "application/cloudevents+json")], body);
        for (event, want) in [
            (&binary, &["datacontenttype", "id", "tenantid", "type"][..]),
            (&structured, &["id", "source", "specversion", "tenantid", "time", "type"]),
        ] {
            let variables = Variables::of(event);
            let mut names = variables.names();
            names.sort_unstable();
            assert_eq!(names, want);
            assert!(variables.count() >= names.len());
            assert_eq!(variables.attribute("tenantid").map(Attribute::into_text).as_deref(), Some("a"));
        }
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
            (&structured[..], "[]", Err(RunError::NoJsonData)),
            (&structured[..], r#"{"data":null,"data_base64":"NQ=="}"#, Ok(5.into())),
            (&structured[..], r#"{"data_base64":"eyJhIjoxfQ=="}"#, Ok(serde_json::json!({"a": 1}))),
            (&structured[..], r#"{"data_base64":"?"}"#, Err(RunError::NoJsonData)),
        ] {
            assert_eq!(Variables::of(&event(headers, body)).data().cloned(), want, "{body}");
        }
    }

    #[test]
    fn what_a_structured_event_lacks_is_filled_in_as_in_other_events() {
        let body = r#"{"id":null,"source":"/own","data":1}"#;
        let mut event = event(&[("content-type", "application/cloudevents+json")], body);
        let text =
            |event: &Event, name| Variables::of(event).attribute(name).map(|found| found.into_text().into_owned());
        assert_eq!((text(&event, "id"), text(&event, "source").as_deref()), (None, Some("/own")));
        let stand_ins = [("ce-id", "s%20:1"), ("ce-source", "/other"), ("ce-type", "other"), ("ce-x", "1")];
        let pair = |(name, value): (&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        event.stand_ins = Some(Box::new(stand_ins.map(pair).into_iter().collect()));
        for (name, want) in [("id", Some("s :1")), ("source", Some("/own")), ("type", Some("t.a")), ("x", None)] {
            assert_eq!(text(&event, name).as_deref(), want, "{name}");
        }
        let variables = Variables::of(&event);
        let all = serde_json::to_value(&**variables.jmespath(true).unwrap()).unwrap();
        assert_eq!(
            all,
            serde_json::json!({ "id": "s :1", "source": "/own", "type": "t.a", "subject": null,
            "time": null, "data": 1 })
        );
    }
}
