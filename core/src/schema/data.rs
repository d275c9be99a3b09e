//! The part of an event that a schema validates: its JSON data, and the version that the event names.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::violation::Violation;
use crate::event::Event;
use crate::event::structured::without_mark;

/// The part of an event that a schema validates, and the version that the event names.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// The data: the body, or `data` or `data_base64` of a structured CloudEvent.
    pub data: Value,
    /// The CloudEvents attribute `schemaversion`, if the event has it.
    pub version: Option<String>,
    /// The CloudEvents attribute `dataschema`, if the event has it.
    pub uri: Option<String>,
}

impl Instance {
    /// Reads the data of an event, and the version that it names.
    ///
    /// # Errors
    /// If its data is not JSON, or is nested more than 127 deep.
    pub fn of(event: &Event) -> Result<Self, Violation> {
        // The error of the parser has no part of the data.
        let unreadable = |what: &'static str| {
            move |error: serde_json::Error| Violation::of_event(format!("the {what} can't be read as JSON: {error}"))
        };
        if !event.is_structured() {
            let data = serde_json::from_slice(without_mark(&event.body)).map_err(unreadable("data"))?;
            let attribute = |name: &str| {
                let text = event.headers.get(name)?.to_str().ok()?;
                Some(percent_decode_str(text).decode_utf8_lossy().into_owned())
            };
            return Ok(Self { data, version: attribute("ce-schemaversion"), uri: attribute("ce-dataschema") });
        }
        let read = serde_json::from_slice(without_mark(&event.body)).map_err(unreadable("event"))?;
        let Value::Object(mut attributes) = read else {
            return Err(Violation::of_event("the event is not a JSON object"));
        };
        let no_base64 = || Violation::of_event("data_base64 is not base64");
        let base64 = attributes.remove("data_base64").filter(|value| !value.is_null());
        let data = match (attributes.remove("data"), base64) {
            (Some(data), base64) if base64.is_none() || !data.is_null() => data,
            (_, Some(Value::String(text))) => {
                let bytes = data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| no_base64())?;
                serde_json::from_slice(without_mark(&bytes)).map_err(unreadable("data"))?
            }
            (_, Some(_)) => return Err(no_base64()),
            (_, None) => return Err(Violation::of_event("the event has no data")),
        };
        let mut text = |name: &str| match attributes.remove(name) {
            Some(Value::String(text)) => Some(text),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        Ok(Self { version: text("schemaversion"), uri: text("dataschema"), data })
    }
}
