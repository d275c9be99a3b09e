//! Event types and the patterns that select them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest event type, in bytes.
pub const MAX_LENGTH: usize = 255;

/// Whether this can be an event type: 1 to 255 bytes, no white space, no control character.
#[must_use]
pub fn is_valid(event_type: &str) -> bool {
    (1..=MAX_LENGTH).contains(&event_type.len()) && !event_type.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Where an event's type comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventTypeRule {
    /// None: `ce-type` (or `type` of a structured CloudEvent), else the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<EventTypeSource>,
    /// Taken off the subject, where the subject is the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
}

/// The one place that an event's type is read from; its absence makes the event malformed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum EventTypeSource {
    /// The CloudEvents attribute `type`.
    CloudEvents,
    /// The subject.
    Subject,
    /// This header of the message.
    Header {
        /// Its name, without regard to case.
        name: String,
    },
}

/// A pattern over the dot-separated tokens of an event type, as in NATS: `*` is one token, a last `>` is one or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventTypePattern(String);

/// The text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an event type pattern: 1 to 255 bytes, tokens not empty, '*' a whole token, '>' the last")]
pub struct InvalidPattern(String);

impl EventTypePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// If it is no valid event type, has an empty token, a `*` within a token or a `>` that is not the last token.
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

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no wildcard.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.split('.').any(|token| token == "*" || token == ">")
    }

    /// Whether the event type is one of those that the pattern selects.
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
    fn refused_patterns() {
        for text in ["", ".", "a.", ".a", "a..b", "a*", "a.>.b", "a b", "a.b>", "a\n", &"a".repeat(256)] {
            assert!(EventTypePattern::parse(text).is_err(), "{text:?}");
        }
    }
}
