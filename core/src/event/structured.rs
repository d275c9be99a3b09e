//! A CloudEvent in structured mode. Its body goes out as it was published, so it is read only for its type: what its
//! data contains is for its publisher and its receivers to know.

use std::fmt;

use serde::Deserializer;
use serde::de::{Deserialize, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::malformed::Malformed;

/// Some programs on Windows begin a file with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the type of a structured CloudEvent in JSON; `None` if it has none, or `null`.
///
/// # Errors
/// If the body is not a JSON object, or its type is not a text in Unicode or stands there twice.
pub(crate) fn event_type(body: &[u8]) -> Result<Option<String>, Malformed> {
    let body = without_mark(body);
    if body.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|first| *first != b'{') {
        return Err(Malformed::NotAnObject);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = reader.deserialize_map(TypeAlone).and_then(|found| reader.end().map(|()| found));
    match read {
        Ok(None) => Ok(None),
        Ok(Some(written)) => serde_json::from_str(written.get()).map_err(|_| Malformed::InvalidType),
        Err(error) if error.is_data() => Err(Malformed::Twice { name: "type".to_owned() }),
        // The error of the parser has no part of the body.
        Err(error) => Err(Malformed::NotJson { reason: error.to_string() }),
    }
}

/// The JSON text without a byte order mark, which readers may ignore (RFC 8259, 8.1).
pub(crate) fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json)
}

/// The names and values of an object as they are written, with repeats.
pub(crate) struct Members<'a>(pub(crate) Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Reads the member `type` of an object and skips the others.
struct TypeAlone;

impl<'de> Visitor<'de> for TypeAlone {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Option<&'de RawValue>, A::Error> {
        let mut found = None;
        while let Some(name) = object.next_key::<&RawValue>()? {
            // A name that is not Unicode is another one.
            if !serde_json::from_str::<String>(name.get()).is_ok_and(|name| name == "type") {
                object.next_value::<IgnoredAny>()?;
            } else if found.replace(object.next_value()?).is_some() {
                return Err(A::Error::custom("two types"));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_type_is_read() {
        let deep = format!(r#"{{"type":"t","data":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        let twice = Malformed::Twice { name: "type".to_owned() };
        for (body, want) in [
            (r#"{"specversion":"1.0","type":"order.created","data":{"type":"x"}}"#, Ok(Some("order.created"))),
            (" {\"type\":\"\\u00e4\"} \r\n", Ok(Some("ä"))),
            // What the data contains doesn't matter.
            (r#"{"data":{"text":"cut \ud83d"},"type":"t"}"#, Ok(Some("t"))),
            (r#"{"data":"\u0000","n":1e999,"type":"t"}"#, Ok(Some("t"))),
            (&deep, Ok(Some("t"))),
            ("\u{feff}{\"type\":\"t\"}", Ok(Some("t"))),
            (r#"{"\ud83d":1,"type":"t"}"#, Ok(Some("t"))),
            (r#"{"data":1,"data":2,"type":"t"}"#, Ok(Some("t"))),
            // The type is absent, null, or not a text.
            ("{}", Ok(None)),
            (r#"{"type":null}"#, Ok(None)),
            (r#"{"Type":"t"}"#, Ok(None)),
            (r#"{"type":1}"#, Err(Malformed::InvalidType)),
            // JSON allows it; no text in Unicode has half of a pair.
            (r#"{"type":"\ud83d"}"#, Err(Malformed::InvalidType)),
            (&deep.replace("\"t\",\"data\":", ""), Err(Malformed::InvalidType)),
            (r#"{"type":"a","type":"b"}"#, Err(twice.clone())),
            (r#"{"type":null,"\u0074ype":"b"}"#, Err(twice)),
            ("[]", Err(Malformed::NotAnObject)),
            ("\"{}\"", Err(Malformed::NotAnObject)),
            ("\u{1f}\u{8b}", Err(Malformed::NotAnObject)),
        ] {
            assert_eq!(event_type(body.as_bytes()), want.map(|found| found.map(str::to_owned)), "{body:.60}");
        }
        for (body, reason) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            (r#"{"type":"secret","#, "EOF while parsing a value at line 1 column 17"),
            (r#"{"type":"secret"}}"#, "trailing characters at line 1 column 18"),
            (r#"{"data":secret}"#, "expected value at line 1 column 9"),
        ] {
            let Err(Malformed::NotJson { reason: got }) = event_type(body.as_bytes()) else { panic!("{body}") };
            assert_eq!(got, reason, "{body}");
        }
    }
}
