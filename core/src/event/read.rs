//! Reading a NATS message as an event: the event's type, and the HTTP headers and body of its deliveries.
//!
//! A message has one of three forms: a CloudEvent in binary mode (`ce-*` headers), a CloudEvent in structured mode
//! (`application/cloudevents+json`), or a plain message. The body always goes out as it was published. Attributes that
//! a message in binary mode or a plain message lacks are filled in: `id` from `Nats-Msg-Id`, else
//! `<stream>:<sequence>`; `source` from the Producer; `time` from the stream.
//!
//! The rules are those of the CloudEvents NATS binding (1.0.3-wip, the first with a binary mode) for what is read, and of
//! the HTTP binding for what is written. The same message is read in the same way each time, in whichever order its
//! headers come.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::event::attributes::{self, Attributes, attribute_value, field_value};
use crate::event::event_type::{self, EventTypeRule, EventTypeSource};
use crate::event::malformed::Malformed;
use crate::event::shared::Shared;
use crate::event::structured;

/// Whether a message is an event. A stream holds others, too: marks that the server, or a client of a key-value bucket,
/// leaves in place of what was deleted, and messages that the server is to publish later. `header` returns the value of a
/// header.
#[must_use]
pub fn is_event<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> bool {
    let is_removal = matches!(header("KV-Operation"), Some("DEL" | "PURGE"));
    !is_removal && header("Nats-Marker-Reason").is_none() && header("Nats-Schedule").is_none()
}

/// A message of a Producer's stream.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// The subject that the message was published to.
    pub subject: &'a str,
    /// The headers of the message.
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

impl<'a> Message<'a> {
    /// The value of a header that may stand there once, without regard to case.
    fn header(&self, name: &str) -> Result<Option<&'a str>, Malformed> {
        let mut values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        let value = values.next();
        if values.next().is_some() {
            return Err(Malformed::Twice { name: name.to_ascii_lowercase() });
        }
        Ok(value)
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
    /// The headers `content-type` and `content-encoding`, and the `ce-*` headers unless the event is in structured mode.
    pub headers: HeaderMap,
    /// The body, as it was published.
    pub body: Bytes,
    /// The `ce-*` headers that an event in structured mode gets in binary mode if its body lacks these attributes; `None`
    /// for other events.
    pub stand_ins: Option<Box<HeaderMap>>,
    /// What was parsed of the event.
    pub parsed: Shared,
}

impl Event {
    /// An event that was not published in structured mode.
    #[must_use]
    pub fn new(event_type: impl Into<String>, headers: HeaderMap, body: Bytes) -> Self {
        Self { event_type: event_type.into(), headers, body, stand_ins: None, parsed: Shared::default() }
    }

    /// Whether the body is a structured CloudEvent, which contains the data.
    #[must_use]
    pub fn is_structured(&self) -> bool {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| str::from_utf8(value.as_bytes()).ok());
        content_type.is_some_and(|text| Format::of(text) != Format::Data)
    }
}

/// What a content type says about the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// The event's data, or no event at all.
    Data,
    /// A structured CloudEvent in JSON, which is the default of the media type.
    Json,
    /// A structured CloudEvent in another format.
    Other,
    Batch,
}

impl Format {
    fn of(content_type: &str) -> Self {
        const START: &str = "application/cloudevents";
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let rest = match media_type.split_at_checked(START.len()) {
            Some((start, rest)) if start.eq_ignore_ascii_case(START) => rest,
            _ => return Self::Data,
        };
        let is_batch = rest.get(..6).is_some_and(|begin| begin.eq_ignore_ascii_case("-batch"));
        match rest {
            _ if rest.is_empty() || rest.eq_ignore_ascii_case("+json") => Self::Json,
            _ if is_batch => Self::Batch,
            _ if rest.starts_with('+') => Self::Other,
            _ => Self::Data,
        }
    }
}

/// Reads a message as an event.
///
/// # Errors
/// If the message is malformed. The fault lies in the message itself, so no Subscription can get it.
pub fn parse(message: &Message<'_>, reading: Reading<'_>) -> Result<Event, Malformed> {
    let declared = message.header(CONTENT_TYPE.as_str())?.and_then(field_value);
    let encoding = message.header(CONTENT_ENCODING.as_str())?.and_then(field_value);
    // In structured mode the attributes are in the body, whatever the headers say.
    let structured = declared.is_some_and(|text| Format::of(text) != Format::Data);
    let attributes = if structured { Attributes::default() } else { Attributes::read(message.headers)? };
    let content_type = attributes.get("datacontenttype").and_then(field_value).or(declared);
    // HTTP receivers have the content type alone to tell the modes apart, so what it says holds here, too.
    let mode = content_type.map_or(Format::Data, Format::of);
    let event_type = match (reading.known_type, mode) {
        (_, Format::Batch) => return Err(Malformed::Batch),
        (_, Format::Other) => return Err(Malformed::UnknownFormat),
        (Some(known), _) => known.to_owned(),
        (None, Format::Json) => read_type(message, reading.rule, || {
            let is_encoded = encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"));
            if is_encoded { Err(Malformed::Encoded) } else { structured::event_type(message.body) }
        })?,
        (None, Format::Data) => read_type(message, reading.rule, || Ok(attributes.get("type").map(str::to_owned)))?,
    };
    if !event_type::is_valid(&event_type) {
        return Err(Malformed::InvalidType);
    }
    let mut headers = HeaderMap::with_capacity(16);
    let carried =
        |name, text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|_| Malformed::ControlCharacters { name });
    let content_type = content_type.map(|text| carried("content-type", text)).transpose()?;
    headers.insert(CONTENT_TYPE, content_type.unwrap_or_else(|| guess_content_type(message.body)));
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, carried("content-encoding", encoding)?);
    }
    let stand_ins = (mode != Format::Data).then(|| stand_ins(message, reading.source, &event_type)).transpose()?;
    if stand_ins.is_none() {
        write_attributes(message, reading.source, &event_type, &attributes, &mut headers)?;
    }
    Ok(Event { event_type, headers, body: message.body.clone(), stand_ins, parsed: Shared::default() })
}

/// The header by which NATS tells messages apart.
const MESSAGE_ID: &str = "Nats-Msg-Id";

const TYPE: HeaderName = HeaderName::from_static("ce-type");
const SPEC_VERSION: HeaderName = HeaderName::from_static("ce-specversion");
const SOURCE: HeaderName = HeaderName::from_static("ce-source");
const TIME: HeaderName = HeaderName::from_static("ce-time");
const ID: HeaderName = HeaderName::from_static("ce-id");

/// Reads the event's type by the rule. `attribute` reads the CloudEvents attribute `type`, if it is asked for.
fn read_type(
    message: &Message<'_>,
    rule: &EventTypeRule,
    attribute: impl FnOnce() -> Result<Option<String>, Malformed>,
) -> Result<String, Malformed> {
    let subject = || {
        let prefix = rule.strip_prefix.as_deref().unwrap_or("");
        message.subject.strip_prefix(prefix).filter(|rest| !rest.is_empty()).unwrap_or(message.subject).to_owned()
    };
    match &rule.from {
        None => Ok(attribute()?.unwrap_or_else(subject)),
        Some(EventTypeSource::Subject) => Ok(subject()),
        Some(EventTypeSource::CloudEvents) => attribute()?.ok_or(Malformed::MissingType),
        Some(EventTypeSource::Header { name }) => {
            let value = message.header(name)?.ok_or(Malformed::MissingType)?;
            if attributes::name(name).is_none() {
                return Ok(value.to_owned());
            }
            let decoded =
                attributes::decoded(value).ok_or_else(|| Malformed::NotUtf8 { name: name.to_ascii_lowercase() });
            Ok(decoded?.into_owned())
        }
    }
}

/// What stands in for attributes that the body of an event in structured mode lacks.
fn stand_ins(message: &Message<'_>, source: &HeaderValue, event_type: &str) -> Result<Box<HeaderMap>, Malformed> {
    // An id of the message that isn't one is no fault of the event, which most likely has an id of its own.
    let headers = if message.header(MESSAGE_ID).is_ok() { message.headers } else { &[] };
    let mut stand_ins = HeaderMap::new();
    let message = Message { headers, ..message.clone() };
    write_attributes(&message, source, event_type, &Attributes::default(), &mut stand_ins)?;
    Ok(Box::new(stand_ins))
}

/// Writes the attributes, always in the same order: those that every delivery has, then the others by their names. What
/// is missing is filled in. The type is the one that the event was matched by.
fn write_attributes(
    message: &Message<'_>,
    source: &HeaderValue,
    event_type: &str,
    attributes: &Attributes<'_>,
    headers: &mut HeaderMap,
) -> Result<(), Malformed> {
    let given = |name| attributes.get(name).map(attribute_value);
    headers.insert(SPEC_VERSION, given("specversion").unwrap_or(HeaderValue::from_static("1.0")));
    let id = match (given("id"), message.header(MESSAGE_ID)?) {
        (Some(id), _) => id,
        (None, Some(id)) if !id.is_empty() => attribute_value(id),
        (None, _) => attribute_value(&format!("{}:{}", message.stream, message.sequence)),
    };
    headers.insert(ID, id);
    headers.insert(SOURCE, given("source").unwrap_or_else(|| source.clone()));
    headers.insert(TYPE, attribute_value(event_type));
    let time = match attributes.get("time") {
        Some(time) if !is_time(time) => return Err(Malformed::InvalidTime),
        Some(time) => attribute_value(time),
        None => attribute_value(&message.published.to_string()),
    };
    headers.insert(TIME, time);
    for (name, value) in attributes.iter() {
        if !matches!(name, "specversion" | "id" | "source" | "type" | "time" | "datacontenttype")
            && let Ok(name) = HeaderName::try_from(format!("ce-{name}"))
        {
            headers.insert(name, attribute_value(value));
        }
    }
    Ok(())
}

/// Whether a text is a time by RFC 3339. A parser of times would take other forms, too, and fewer years and digits.
fn is_time(text: &str) -> bool {
    let shape = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        10 => byte.eq_ignore_ascii_case(&b'T'),
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    };
    let Some((moment, rest)) = text.split_at_checked(19) else { return false };
    let offset = match rest.strip_prefix('.') {
        Some(digits) if digits.starts_with(|char: char| char.is_ascii_digit()) => {
            digits.trim_start_matches(|char: char| char.is_ascii_digit())
        }
        Some(_) => return false,
        None => rest,
    };
    moment.bytes().enumerate().all(shape) && moment.parse::<DateTime>().is_ok() && is_offset(offset)
}

fn is_offset(text: &str) -> bool {
    let two = |text: &str, most: u8| {
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u8>().is_ok_and(|number| number <= most)
    };
    let numeric = || {
        let (hours, minutes) = text.strip_prefix(['+', '-'])?.split_once(':')?;
        (text.len() == 6 && hours.len() == 2).then(|| two(hours, 23) && two(minutes, 59))
    };
    text.eq_ignore_ascii_case("z") || numeric() == Some(true)
}

/// The content type of a body that was published without one: JSON, if the body begins like a JSON object, array or
/// text.
fn guess_content_type(body: &Bytes) -> HeaderValue {
    HeaderValue::from_static(match structured::without_mark(body).iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[' | b'"') => "application/json",
        _ => "application/octet-stream",
    })
}

#[cfg(test)]
mod tests;
