//! Durations as users write them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration as StdDuration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::patterns;

/// A duration in the form of the Gateway API, such as `90s` or `1h30m`. It keeps the text, so that writing an object
/// back changes nothing.
///
/// The API server admits only texts that [`Duration::to_std`] can read, and that are longer than zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

impl Duration {
    /// Wraps a text without checking it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The length of time, or `None` if the text isn't of the form `^([0-9]{1,5}(h|m|s|ms)){1,4}$`.
    pub fn to_std(&self) -> Option<StdDuration> {
        let mut rest = self.0.as_str();
        let mut total = StdDuration::ZERO;
        let mut parts = 0;
        while !rest.is_empty() {
            parts += 1;
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            if parts > 4 || !(1..=5).contains(&digits) {
                return None;
            }
            let (number, tail) = rest.split_at(digits);
            let number: u64 = number.parse().ok()?;
            let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            total += match unit {
                "h" => StdDuration::from_secs(number * 3600),
                "m" => StdDuration::from_secs(number * 60),
                "s" => StdDuration::from_secs(number),
                "ms" => StdDuration::from_millis(number),
                _ => return None,
            };
            rest = tail;
        }
        (parts > 0).then_some(total)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 24,
            "pattern": patterns::DURATION,
            "x-kubernetes-validations": [
                { "rule": "duration(self) > duration('0s')", "message": "must be longer than 0s" },
            ],
        })
    }
}

/// A duration that may be zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationOrZero(Duration);

impl DurationOrZero {
    /// Wraps a text without checking it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Duration::new(text))
    }

    /// See [`Duration::to_std`].
    pub fn to_std(&self) -> Option<StdDuration> {
        self.0.to_std()
    }
}

impl fmt::Display for DurationOrZero {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for DurationOrZero {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DurationOrZero".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 24, "pattern": patterns::DURATION })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_schema_admits_and_nothing_else() {
        let ms = StdDuration::from_millis;
        let cases = [
            ("15s", Some(ms(15_000))),
            ("1500ms", Some(ms(1500))),
            ("1h30m", Some(ms(5_400_000))),
            ("1h1m1s1ms", Some(ms(3_661_001))),
            ("10s10s", Some(ms(20_000))),
            ("99999h99999h99999h99999h", Some(ms(99_999 * 4 * 3_600_000))),
            ("0s", Some(ms(0))),
            ("", None),
            ("5", None),
            ("s", None),
            ("1.5s", None),
            ("-5s", None),
            ("5 s", None),
            ("5d", None),
            ("5us", None),
            ("100000s", None),
            ("1s1s1s1s1s", None),
            ("5S", None),
            ("５s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Duration::new(text).to_std(), expected, "{text}");
        }
    }

    #[test]
    fn keeps_the_text() {
        let json = r#""0060m""#;
        let duration: Duration = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&duration).unwrap(), json);
    }
}
