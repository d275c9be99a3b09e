//! Reading a NATS message as an event: the event's type, and the HTTP headers and body of its deliveries.
//!
//! A message has one of three forms: a CloudEvent in binary mode (`ce-*` headers), a CloudEvent in structured mode
//! (`application/cloudevents+json`), or a plain message. The body always goes out as it was published. Attributes that
//! a message in binary mode or a plain message lacks are filled in: `id` from `Nats-Msg-Id`, else
//! `<stream>:<sequence>`; `source` from the Producer; `time` from the stream.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use crate::event::event_type::{self, EventTypeRule, EventTypeSource};

/// A message of a Producer's stream.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// The subject that the message was published to.
    pub subject: &'a str,
    /// The headers of the message, in order.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body of the message.
    pub body: &'a Bytes,
    /// The name of the stream that holds the message.
    pub stream: &'a str,
    /// The sequence of the message in the stream.
    pub sequence: u64,
    /// When the stream received the message.
    pub published: Timestamp,
}

impl Message<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// How the messages of a Producer are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Where events carry their type.
    pub rule: &'a EventTypeRule,
    /// The CloudEvents `source` of events that have none of their own, encoded by [`attribute_value`].
    pub source: &'a HeaderValue,
    /// The event's type, if it is known already: a delivery keeps the type under which the event was matched.
    pub known_type: Option<&'a str>,
}

/// An event with the headers and body of its deliveries. It can be delivered any number of times.
#[derive(Debug, Clone)]
pub struct Event {
    /// The type of the event.
    pub event_type: String,
    /// The header `content-type`, and the `ce-*` headers unless the event is in structured mode.
    pub headers: HeaderMap,
    /// The body, as it was published.
    pub body: Bytes,
}

impl Event {
    /// Whether the body is a structured CloudEvent, which contains the data.
    #[must_use]
    pub fn is_structured(&self) -> bool {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        content_type.get(..STRUCTURED.len()).is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
    }
}

/// Why a message is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The content type says structured CloudEvent, but the body isn't a JSON object.
    #[error("the body is not a JSON object, as application/cloudevents+json has to be")]
    NotAnObject,
    /// The message is a batch of CloudEvents.
    #[error("a batch of CloudEvents is not supported: publish one event a message")]
    Batch,
    /// The event has more attributes than HTTP receivers take.
    #[error("the event has more than 64 CloudEvents attributes")]
    TooManyAttributes,
    /// The event has no type where the Producer says that it is.
    #[error("the event has no type where the Producer's eventType.from says that it is")]
    MissingType,
    /// The type is empty or too long, or has white space or control characters.
    #[error("the event type is empty, has white space or control characters, or is longer than 255 bytes")]
    InvalidType,
}

const STRUCTURED: &str = "application/cloudevents";
const BATCH: &str = "application/cloudevents-batch";

/// Reads a message as an event.
///
/// # Errors
/// If the message is malformed. The fault lies in the message itself, so no Subscription can get it.
pub fn parse(message: &Message<'_>, reading: Reading<'_>) -> Result<Event, Malformed> {
    let content_type = message.header("content-type").or_else(|| message.header("ce-datacontenttype"));
    let is = |kind: &str| {
        content_type.is_some_and(|text| text.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind)))
    };
    if is(BATCH) {
        return Err(Malformed::Batch);
    }
    // The capacity includes the other headers of a request: the last request for this event takes over the map.
    let mut headers = HeaderMap::with_capacity(16);
    let attribute = if is(STRUCTURED) {
        structured_type(message.body)?
    } else {
        binary_attributes(message, &mut headers)?;
        headers.get(TYPE).and_then(|value| value.to_str().ok()).map(decoded)
    };
    let event_type = match reading.known_type {
        Some(known) => known.to_owned(),
        None => read_type(message, reading.rule, attribute)?,
    };
    if !event_type::is_valid(&event_type) {
        return Err(Malformed::InvalidType);
    }
    if !is(STRUCTURED) {
        complete(message, reading.source, &event_type, &mut headers);
    }
    let content_type = content_type.unwrap_or_else(|| guess_content_type(message.body));
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    Ok(Event { event_type, headers, body: message.body.clone() })
}

/// Reads the type of a structured CloudEvent.
///
/// A structured CloudEvent goes out without `ce-*` headers. The HTTP binding (3.2.3) allows them, but some SDKs then
/// take the structured body for the data of a CloudEvent in binary mode.
fn structured_type(body: &Bytes) -> Result<Option<String>, Malformed> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(mut attributes)) => match attributes.remove("type") {
            Some(Value::String(event_type)) => Ok(Some(event_type)),
            _ => Ok(None),
        },
        _ => Err(Malformed::NotAnObject),
    }
}

const TYPE: HeaderName = HeaderName::from_static("ce-type");
const SPEC_VERSION: HeaderName = HeaderName::from_static("ce-specversion");
const SOURCE: HeaderName = HeaderName::from_static("ce-source");
const TIME: HeaderName = HeaderName::from_static("ce-time");
const ID: HeaderName = HeaderName::from_static("ce-id");

/// The ASCII characters that the CloudEvents HTTP binding (3.1.3.2) percent-encodes in an attribute's value.
const ATTRIBUTE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The most attributes that an event may have: HTTP servers take about a hundred headers.
const MAX_ATTRIBUTES: usize = 64;

fn binary_attributes(message: &Message<'_>, headers: &mut HeaderMap) -> Result<(), Malformed> {
    for (name, value) in message.headers {
        let Some(prefix) = name.get(..3) else { continue };
        let attribute = &name[3..];
        if prefix.eq_ignore_ascii_case("ce-") && !attribute.eq_ignore_ascii_case("datacontenttype") {
            let name = HeaderName::from_bytes(format!("ce-{attribute}").as_bytes());
            // The value is already in its HTTP form; only characters that HTTP can't carry are encoded.
            let value = HeaderValue::from_str(&Cow::from(utf8_percent_encode(value, CONTROLS)));
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.insert(name, value);
            }
        }
        if headers.len() > MAX_ATTRIBUTES {
            return Err(Malformed::TooManyAttributes);
        }
    }
    Ok(())
}

/// Reads the event's type by the rule. `attribute` is the CloudEvents attribute `type`, if the message has it.
fn read_type(message: &Message<'_>, rule: &EventTypeRule, attribute: Option<String>) -> Result<String, Malformed> {
    let subject = || {
        let prefix = rule.strip_prefix.as_deref().unwrap_or("");
        message.subject.strip_prefix(prefix).filter(|rest| !rest.is_empty()).unwrap_or(message.subject).to_owned()
    };
    match &rule.from {
        None => Ok(attribute.unwrap_or_else(subject)),
        Some(EventTypeSource::Subject) => Ok(subject()),
        Some(EventTypeSource::CloudEvents) => attribute.ok_or(Malformed::MissingType),
        Some(EventTypeSource::Header { name }) => message.header(name).map(str::to_owned).ok_or(Malformed::MissingType),
    }
}

fn decoded(value: &str) -> String {
    percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// Fills in the attributes that every delivery has, and sets `ce-type` to the type that the event was matched by.
fn complete(message: &Message<'_>, source: &HeaderValue, event_type: &str, headers: &mut HeaderMap) {
    headers.insert(TYPE, attribute_value(event_type));
    headers.entry(SPEC_VERSION).or_insert(HeaderValue::from_static("1.0"));
    headers.entry(SOURCE).or_insert_with(|| source.clone());
    headers.entry(TIME).or_insert_with(|| ascii(message.published.to_string()));
    headers.entry(ID).or_insert_with(|| match message.header("Nats-Msg-Id") {
        Some(id) if !id.is_empty() => attribute_value(id),
        _ => ascii(format!("{}:{}", utf8_percent_encode(message.stream, ATTRIBUTE), message.sequence)),
    });
}

/// The value of a CloudEvents attribute in its HTTP form, percent-encoded (HTTP binding 3.1.3.2).
#[must_use]
pub fn attribute_value(value: &str) -> HeaderValue {
    ascii(Cow::from(utf8_percent_encode(value, ATTRIBUTE)).into_owned())
}

/// Makes a header value of visible ASCII. It can't fail for times and percent-encoded texts.
fn ascii(text: String) -> HeaderValue {
    let value = HeaderValue::try_from(text);
    debug_assert!(value.is_ok());
    value.unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The content type of a body that was published without one: JSON, if the body begins like a JSON object, array or
/// text.
fn guess_content_type(body: &Bytes) -> &'static str {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[' | b'"') => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rule: &EventTypeRule, headers: &[(&str, &str)], body: &'static str) -> Result<Event, Malformed> {
        let body = Bytes::from_static(body.as_bytes());
        let published = "2026-01-01T00:00:00Z".parse().unwrap();
        let message = Message {
            subject: "shop.events.order.created",
            headers,
            body: &body,
            stream: "shop_orders",
            sequence: 7,
            published,
        };
        parse(&message, Reading { rule, source: &attribute_value("/shop"), known_type: None })
    }

    fn rule(from: Option<EventTypeSource>, strip: Option<&str>) -> EventTypeRule {
        EventTypeRule { from, strip_prefix: strip.map(str::to_owned) }
    }

    fn header<'a>(event: &'a Event, name: &str) -> &'a str {
        event.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn a_plain_message_becomes_a_cloudevent() {
        let event = read(&rule(None, Some("shop.events.")), &[("Nats-Msg-Id", "o 1")], r#" {"a":1}"#).unwrap();
        assert_eq!(event.event_type, "order.created");
        assert_eq!(event.body.as_ref(), br#" {"a":1}"#);
        for (name, want) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "o%201"),
            ("ce-source", "/shop"),
            ("ce-type", "order.created"),
            ("ce-time", "2026-01-01T00:00:00Z"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(header(&event, name), want, "{name}");
        }
        let event = read(&rule(None, None), &[], "\u{1}binary").unwrap();
        assert_eq!(header(&event, "ce-id"), "shop_orders:7");
        assert_eq!(header(&event, "content-type"), "application/octet-stream");
    }

    #[test]
    fn what_http_cannot_carry_is_encoded() {
        let body = Bytes::new();
        let message = |headers, stream| Message {
            subject: "t",
            headers,
            body: &body,
            stream,
            sequence: 7,
            published: "2026-01-01T00:00:00.000000001Z".parse().unwrap(),
        };
        let rule = rule(None, None);
        let reading = Reading { rule: &rule, source: &attribute_value("/é"), known_type: None };
        for (headers, stream, id) in [
            (&[][..], "bestellungen_ä", "bestellungen_%C3%A4:7"),
            (&[("Nats-Msg-Id", "é \"1\" %")], "s", "%C3%A9%20%221%22%20%25"),
            (&[("Nats-Msg-Id", "")], "s", "s:7"),
        ] {
            let event = parse(&message(headers, stream), reading).unwrap();
            let got = ["ce-id", "ce-source", "ce-time"].map(|name| header(&event, name));
            assert_eq!(got, [id, "/%C3%A9", "2026-01-01T00:00:00.000000001Z"]);
        }
    }

    #[test]
    fn binary_mode_keeps_its_attributes() {
        let headers = [
            ("Ce-Type", "t.a"),
            ("ce-id", "1"),
            ("ce-source", "s"),
            ("ce-ext", "x%20y"),
            ("Content-Type", "text/xml"),
            ("other", "o"),
        ];
        let event = read(&rule(None, None), &headers, "<a/>").unwrap();
        assert_eq!(event.event_type, "t.a");
        assert_eq!((header(&event, "ce-id"), header(&event, "ce-ext")), ("1", "x%20y"));
        assert_eq!(header(&event, "content-type"), "text/xml");
        assert!(!event.headers.contains_key("other"));
    }

    #[test]
    fn structured_mode_goes_out_as_published() {
        let content = [("content-type", "application/cloudevents+json; charset=utf-8")];
        let body = r#"{"specversion":"1.0","id":"é 1","source":"s","type":"t.b","n":3,"data":{"x":1}}"#;
        let event = read(&rule(Some(EventTypeSource::CloudEvents), None), &content, body).unwrap();
        assert_eq!(event.event_type, "t.b");
        assert_eq!(event.body.as_ref(), body.as_bytes());
        assert_eq!((event.headers.len(), header(&event, "content-type")), (1, content[0].1));
    }

    #[test]
    fn where_the_type_comes_from() {
        let ce = [("ce-type", "t.c"), ("X-Kind", "k.d")];
        let from_header = |name: &str| Some(EventTypeSource::Header { name: name.to_owned() });
        for (from, strip, headers, want) in [
            (None, None, &ce[..], Ok("t.c")),
            (None, Some("shop."), &[][..], Ok("events.order.created")),
            (None, Some("other."), &[][..], Ok("shop.events.order.created")),
            (None, Some("shop.events.order.created"), &[][..], Ok("shop.events.order.created")),
            (Some(EventTypeSource::Subject), Some("shop.events."), &ce[..], Ok("order.created")),
            (Some(EventTypeSource::CloudEvents), None, &[][..], Err(Malformed::MissingType)),
            (from_header("x-kind"), None, &ce[..], Ok("k.d")),
            (from_header("x-none"), None, &ce[..], Err(Malformed::MissingType)),
        ] {
            let got = read(&rule(from.clone(), strip), headers, "{}").map(|event| event.event_type);
            assert_eq!(got, want.map(str::to_owned), "{from:?}");
        }
    }

    #[test]
    fn attributes_are_bounded() {
        let names: Vec<String> = (0..40_000).map(|n| format!("ce-a{n}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        assert_eq!(read(&rule(None, None), &headers, "{}").unwrap_err(), Malformed::TooManyAttributes);
        assert!(read(&rule(None, None), &headers[..60], "{}").is_ok());
    }

    #[test]
    fn malformed_table() {
        let structured = [("content-type", "application/cloudevents+json")];
        for (headers, body, want) in [
            (&structured[..], "{", Malformed::NotAnObject),
            (&structured[..], "[]", Malformed::NotAnObject),
            (&structured[..], "", Malformed::NotAnObject),
            (&[("content-type", "application/cloudevents-batch+json")][..], "[]", Malformed::Batch),
            (&[("ce-type", "a b")][..], "{}", Malformed::InvalidType),
            (&[("ce-type", "")][..], "{}", Malformed::InvalidType),
        ] {
            assert_eq!(read(&rule(None, None), headers, body).unwrap_err(), want, "{headers:?} {body}");
        }
    }
}
