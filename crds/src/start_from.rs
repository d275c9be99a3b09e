//! Where in its Producer's stream a Subscription starts.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::patterns;
use crate::schema::plain_enum;

/// Where in its Producer's stream a Subscription starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "(self.position == 'Time') == has(self.time)",
    "time is required with position: Time, and refused otherwise"
))]
#[x_kube(validation = (
    "(self.position == 'Sequence') == has(self.sequence)",
    "sequence is required with position: Sequence, and refused otherwise"
))]
pub struct StartFrom {
    /// Which event is the first: New (the first one that is published after the Subscription is Ready), Earliest (the
    /// first one that the stream has), Time (the first one that the stream stored at time or later) or Sequence (the one
    /// with this sequence in the stream). If the stream no longer has the event, the first one that it has.
    pub position: StartPosition,
    /// The time to start at, such as `2026-01-31T08:00:00Z`, by the clock of NATS; not in the future. Required with
    /// position Time, refused otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<DateTime>,
    /// The sequence in the stream to start at, 1 or more, and at most the one after the stream's last. Required with
    /// position Sequence, refused otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991i64))]
    pub sequence: Option<i64>,
}

/// Which event a Subscription starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum StartPosition {
    /// The first event that is published after the Subscription is Ready.
    #[default]
    New,
    /// The first event that the stream has.
    Earliest,
    /// The first event that the stream stored at a time or later.
    Time,
    /// The event with a sequence.
    Sequence,
}

/// A point in time in the form of RFC 3339, such as `2026-01-31T08:00:00Z`. It keeps the text, so that an object can be
/// read even if its text can't, and writing it back changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DateTime(String);

impl DateTime {
    /// Wraps a text without checking it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The point in time, or `None` if the text names none.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.0.parse().ok()
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for DateTime {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DateTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "maxLength": 35,
            "pattern": patterns::DATE_TIME,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_every_form_that_the_schema_admits() {
        let second = |text: &str| DateTime::new(text).timestamp().map(|time| time.as_second());
        let noon = second("2026-01-31T12:00:00Z");
        assert!(noon.is_some());
        for text in ["2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00.123456789Z", "2026-01-31T11:30:00.5-00:30"] {
            assert_eq!(second(text), noon, "{text}");
        }
        for text in ["", "2026-01-31", "2026-02-31T12:00:00Z", "2026-01-31T12:00:00+99:00", "noon"] {
            assert_eq!(second(text), None, "{text}");
        }
    }

    #[test]
    fn keeps_the_text() {
        let json = r#"{"position":"Time","time":"2026-01-31T13:00:00.50+01:00"}"#;
        let start: StartFrom = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&start).unwrap(), json);
    }
}
