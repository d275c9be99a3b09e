//! Event types and the patterns that select them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest event type, in bytes.
pub const MAX_LENGTH: usize = 255;

/// Whether a text can be an event type: it has 1 to 255 bytes, no white space and no control character.
#[must_use]
pub fn is_valid(event_type: &str) -> bool {
    (1..=MAX_LENGTH).contains(&event_type.len()) && !event_type.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Where a Producer's events carry their type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventTypeRule {
    /// The one place to read the type from. `None`: `ce-type` (or `type` of a structured CloudEvent), else the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<EventTypeSource>,
    /// The prefix that is cut from a subject before the subject becomes the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
}

/// The one place that an event's type is read from. An event without a type there is malformed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum EventTypeSource {
    /// The CloudEvents attribute `type`.
    CloudEvents,
    /// The NATS subject.
    Subject,
    /// A header of the NATS message.
    Header {
        /// The name of the header, without regard to case.
        name: String,
    },
}

/// A pattern over the dot-separated tokens of an event type, as in NATS: `*` stands for one token, `>` at the end for
/// one or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventTypePattern(String);

/// A text that is not an event type pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an event type pattern: 1 to 255 bytes, tokens not empty, '*' a whole token, '>' the last")]
pub struct InvalidPattern(String);

impl EventTypePattern {
    /// Reads a pattern from its text.
    ///
    /// # Errors
    /// If the text is not a valid event type, or has an empty token, a `*` within a token or a `>` that is not the last
    /// token.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let tokens: Vec<&str> = text.split('.').collect();
        let token_ok = |(i, token): (usize, &&str)| match *token {
            "" => false,
            "*" => true,
            ">" => i + 1 == tokens.len(),
            other => !other.contains(['*', '>']),
        };
        if is_valid(text) && tokens.iter().enumerate().all(token_ok) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPattern(text.chars().take(MAX_LENGTH).collect()))
        }
    }

    /// The pattern that selects every event type.
    #[must_use]
    pub fn all() -> Self {
        Self(">".to_owned())
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern has no wildcard.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.split('.').any(|token| token == "*" || token == ">")
    }

    /// Whether the pattern selects an event type.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        let mut tokens = event_type.split('.');
        for want in self.0.split('.') {
            let Some(token) = tokens.next() else { return false };
            match want {
                ">" => return true,
                "*" => {}
                exact if exact == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl EventTypePattern {
    fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether the pattern selects every event type that the other one selects.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let (mut own, mut others) = (self.tokens(), other.tokens());
        loop {
            match (own.next(), others.next()) {
                (None, None) | (Some(">"), Some(_)) => return true,
                (Some("*"), Some(token)) if token != ">" => {}
                (Some(token), Some(other)) if token == other => {}
                _ => return false,
            }
        }
    }

    /// Whether there is an event type that both patterns select.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut own, mut others) = (self.tokens(), other.tokens());
        loop {
            match (own.next(), others.next()) {
                (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some(token), Some(other)) if token == other || token == "*" || other == "*" => {}
                _ => return false,
            }
        }
    }
}

impl TryFrom<String> for EventTypePattern {
    type Error = InvalidPattern;
    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        Self::parse(&text)
    }
}

impl From<EventTypePattern> for String {
    fn from(pattern: EventTypePattern) -> String {
        pattern.0
    }
}

impl fmt::Display for EventTypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_table() {
        for (pattern, event_type, want) in [
            ("order.created", "order.created", true),
            ("order.created", "order.updated", false),
            ("order.*", "order.created", true),
            ("order.*", "order.line.added", false),
            ("order.*", "order", false),
            ("order.>", "order.line.added", true),
            ("order.>", "order", false),
            (">", "anything.at.all", true),
            ("*.created", "order.created", true),
            ("*.*", "order.created", true),
            ("*", "order.created", false),
        ] {
            assert_eq!(EventTypePattern::parse(pattern).unwrap().matches(event_type), want, "{pattern} {event_type}");
        }
    }

    #[test]
    fn patterns_that_cover_or_overlap_each_other() {
        for (a, b, covers, covered, overlaps) in [
            ("a.b", "a.b", true, true, true),
            ("a.*", "a.b", true, false, true),
            ("a.>", "a.*", true, false, true),
            (">", "*", true, false, true),
            (">", ">", true, true, true),
            ("a.*", "*.b", false, false, true),
            ("*.a.>", "b.>", false, false, true),
            ("a.b", "a.c", false, false, false),
            ("a.>", "a", false, false, false),
            ("a.b", "a.b.c", false, false, false),
            ("*", "*.*", false, false, false),
        ] {
            let (a, b) = (EventTypePattern::parse(a).unwrap(), EventTypePattern::parse(b).unwrap());
            assert_eq!((a.covers(&b), b.covers(&a)), (covers, covered), "{a} {b}");
            assert_eq!((a.overlaps(&b), b.overlaps(&a)), (overlaps, overlaps), "{a} {b}");
        }
    }

    #[test]
    fn refused_patterns() {
        for text in ["", ".", "a.", ".a", "a..b", "a*", "a.>.b", "a b", "a.b>", "a\n", &"a".repeat(256)] {
            assert!(EventTypePattern::parse(text).is_err(), "{text:?}");
        }
    }
}
