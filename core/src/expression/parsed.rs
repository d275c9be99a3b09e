//! The JSON of an event, parsed once for all expressions and templates that look at it: filters, the policies of the
//! Producer, transforms.
//!
//! What was parsed takes many times the memory of its text. So an event keeps it only while what all events keep is within
//! a bound; beyond that it lives as long as its users.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use ::jmespath::Variable;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::cost::{Size, values};
use super::error::RunError;
use crate::event::structured::{Members, without_mark};
use crate::event::{Event, Shared};

/// The most memory of what all events together keep, by the estimate of [`Parsed::memory`].
const MOST_KEPT: usize = 32 << 20;

/// How much events keep.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// The JSON of an event.
#[derive(Debug)]
pub struct Parsed {
    /// The attributes of a structured CloudEvent; nothing for other events.
    attributes: BTreeMap<String, Value>,
    /// The text of the data; empty if there is none.
    text: Result<Bytes, RunError>,
    /// How much the data is.
    size: Size,
    data: OnceLock<Result<Value, RunError>>,
    /// The data as JMESPath takes it.
    jmespath: OnceLock<Arc<Variable>>,
    /// The data as another language takes it.
    pub(crate) other: Shared,
    /// How much it counts among what events keep.
    kept: usize,
}

impl Parsed {
    /// Takes an event apart, unless that was done before.
    #[must_use]
    pub fn of(event: &Event) -> Arc<Self> {
        event.parsed.get().unwrap_or_else(|| {
            let mut parsed = Self::read(event);
            let memory = parsed.memory(event);
            let keeps = |kept: usize| kept.checked_add(memory).filter(|kept| *kept <= MOST_KEPT);
            if KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, keeps).is_err() {
                return Arc::new(parsed);
            }
            parsed.kept = memory;
            let parsed = Arc::new(parsed);
            event.parsed.put(Arc::clone(&parsed));
            parsed
        })
    }

    fn read(event: &Event) -> Self {
        let body = event.body.slice_ref(without_mark(&event.body));
        let mut attributes = BTreeMap::new();
        let text = if event.is_structured() { take_apart(&body, &mut attributes) } else { Ok(body) };
        let json = text.as_deref().unwrap_or_default();
        let size = Size { bytes: json.len(), values: values(json) };
        let (data, jmespath, other) = Default::default();
        Self { attributes, text, size, data, jmespath, other, kept: 0 }
    }

    /// About the memory of all that may be made of the event: three forms of its data, in each of which a text has its
    /// bytes once more and a value takes some 80 bytes.
    fn memory(&self, event: &Event) -> usize {
        let Size { bytes, values } = self.size;
        event.body.len().saturating_add(bytes.saturating_mul(3)).saturating_add(values.saturating_mul(240))
    }

    /// The attributes of a structured CloudEvent.
    pub(super) fn attributes(&self) -> &BTreeMap<String, Value> {
        &self.attributes
    }

    /// How much the data is.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// The data: null if the event has none.
    ///
    /// # Errors
    /// If it is not JSON.
    pub fn data(&self) -> Result<&Value, RunError> {
        let read = || match self.jmespath.get() {
            Some(made) => serde_json::to_value(&**made).or(Err(RunError::Internal)),
            None => self.parse(Value::Null),
        };
        self.data.get_or_init(read).as_ref().map_err(|error| *error)
    }

    /// The data as JMESPath takes it. It is made of the text, unless that was parsed before.
    pub(super) fn jmespath(&self) -> Result<Arc<Variable>, RunError> {
        if let Some(made) = self.jmespath.get() {
            return Ok(Arc::clone(made));
        }
        let made = match self.data.get() {
            Some(Ok(data)) => Variable::from_serializable(data).or(Err(RunError::Internal))?,
            Some(Err(error)) => return Err(*error),
            None => self.parse(Variable::Null)?,
        };
        Ok(Arc::clone(self.jmespath.get_or_init(|| Arc::new(made))))
    }

    fn parse<T: DeserializeOwned>(&self, null: T) -> Result<T, RunError> {
        match self.text.as_ref() {
            Ok(text) if text.is_empty() => Ok(null),
            Ok(text) => serde_json::from_slice(text).or(Err(RunError::NoJsonData)),
            Err(error) => Err(*error),
        }
    }
}

impl Drop for Parsed {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.kept, Ordering::Relaxed);
    }
}

/// Takes a structured CloudEvent apart, and returns the text of its data. Of several members of a name the last counts.
fn take_apart(body: &Bytes, attributes: &mut BTreeMap<String, Value>) -> Result<Bytes, RunError> {
    let Ok(Members(members)) = serde_json::from_slice(body) else { return Err(RunError::NoJsonData) };
    let (mut data, mut base64) = (None, None);
    for (name, value) in members {
        match serde_json::from_str::<String>(name.get()).as_deref() {
            Ok("data") => data = Some(value).filter(|value| value.get() != "null"),
            Ok("data_base64") => base64 = Some(value),
            // No attribute has a list or an object.
            Ok(name) if !value.get().starts_with(['[', '{']) => {
                attributes.extend(serde_json::from_str(value.get()).ok().map(|value| (name.to_owned(), value)));
            }
            _ => {}
        }
    }
    match (data, base64) {
        (Some(data), _) => Ok(body.slice_ref(data.get().as_bytes())),
        (None, Some(base64)) => decoded(base64),
        (None, None) => Ok(Bytes::new()),
    }
}

fn decoded(base64: &RawValue) -> Result<Bytes, RunError> {
    let Ok(text) = serde_json::from_str::<String>(base64.get()) else { return Ok(Bytes::new()) };
    let json = data_encoding::BASE64.decode(text.as_bytes()).or(Err(RunError::NoJsonData))?;
    let json = Bytes::from(json);
    Ok(json.slice_ref(without_mark(&json)))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn event(body: &str) -> Event {
        Event::new("t", HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn an_event_is_parsed_once_and_what_is_made_of_it_goes_with_it() {
        let small = event(r#"{"a":1}"#);
        let first = Parsed::of(&small);
        assert!(Arc::ptr_eq(&first, &Parsed::of(&small)));
        assert!(Arc::ptr_eq(&first.jmespath().unwrap(), &Parsed::of(&small).jmespath().unwrap()));
        let changed = Event { body: Bytes::from_static(b"[]"), ..small.clone() };
        assert_eq!(Parsed::of(&changed).data(), Ok(&Value::Array(Vec::new())), "a copy is parsed anew");
        // What would take more than all events may keep is parsed for each user.
        let large = event(&format!("[{}0]", "0,".repeat(MOST_KEPT / 240)));
        assert!(!Arc::ptr_eq(&Parsed::of(&large), &Parsed::of(&large)));
        let weak = Arc::downgrade(&first);
        drop((first, small));
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn both_forms_of_the_data_are_the_same_whichever_is_made_first() {
        let numbers =
            r#"[0,-1,18446744073709551615,-9223372036854775808,1.5,1e300,0.1,123456789012345678901234567890]"#;
        for text in ["", "null", "{", r#"{"a":1,"a":{"b":[null,true,"\u00e9"]}}"#, numbers] {
            let forms = |first: fn(&Parsed)| {
                let event = event(text);
                let parsed = Parsed::of(&event);
                first(&parsed);
                let jmespath = parsed.jmespath().map(|made| serde_json::to_value(&*made).unwrap());
                (parsed.data().cloned(), jmespath)
            };
            let (data, jmespath) = forms(|parsed| drop(parsed.data().cloned()));
            assert_eq!(data, jmespath, "{text}");
            assert_eq!(forms(|parsed| drop(parsed.jmespath())), (data, jmespath), "{text}");
        }
    }

    #[test]
    fn a_structured_event_taken_apart() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static("application/cloudevents+json"));
        for (body, attributes, data) in [
            (r#"{"id":"a","n":1,"o":{},"l":[1],"data":{"x":[1,2]}}"#, r#"{"id":"a","n":1}"#, Ok(r#"{"x":[1,2]}"#)),
            (r#"{"id":"a","id":"b","data":1,"\u0064ata":2}"#, r#"{"id":"b"}"#, Ok("2")),
            (r#"{"a":"\ud800","\ud800":1,"b":true}"#, r#"{"b":true}"#, Ok("null")),
            (r#"{"data":null,"data_base64":"NQ=="}"#, "{}", Ok("5")),
            (r#"{"data_base64":"77u/NQ=="}"#, "{}", Ok("5")),
            (r#"{"data_base64":5}"#, "{}", Ok("null")),
            (r#"{"data_base64":"?"}"#, "{}", Err(RunError::NoJsonData)),
            (r#"{"id":"a","data":"\ud800"}"#, r#"{"id":"a"}"#, Err(RunError::NoJsonData)),
            ("[]", "{}", Err(RunError::NoJsonData)),
        ] {
            let parsed = Parsed::of(&Event::new("t", headers.clone(), Bytes::copy_from_slice(body.as_bytes())));
            assert_eq!(serde_json::to_string(parsed.attributes()).unwrap(), attributes, "{body}");
            let read = parsed.data().map(ToString::to_string);
            assert_eq!(read.as_deref().map_err(|error| *error), data, "{body}");
        }
        // Base64 doesn't hide how many values there are.
        let many = data_encoding::BASE64.encode(format!("[{}0]", "0,".repeat(1000)).as_bytes());
        let body = Bytes::from(format!(r#"{{"data_base64":"{many}"}}"#));
        assert!(Parsed::of(&Event::new("t", headers, body)).size().values > 1000);
    }
}
