//! Violations: how an event doesn't match its schema.

use std::borrow::Cow;
use std::fmt;

/// How an event violates its schema. It names the place and the keyword, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The version that the event was validated by; `None` if no schema was reached.
    pub version: Option<String>,
    /// The place in the data, as a JSON pointer; empty for the data as a whole.
    pub pointer: String,
    /// The keyword of the schema that the data violates; `None` if no schema was reached.
    pub keyword: Option<String>,
    /// The problem in words.
    pub problem: Cow<'static, str>,
}

impl Violation {
    pub(super) fn of_event(problem: impl Into<Cow<'static, str>>) -> Self {
        Self { version: None, pointer: String::new(), keyword: None, problem: problem.into() }
    }

    /// The violation of an event whose type has no EventSchema.
    #[must_use]
    pub fn no_schema() -> Self {
        Self::of_event("the event's type has no EventSchema")
    }

    /// The violation of an event whose EventSchema this dispatcher can't compile.
    #[must_use]
    pub fn unusable_schema() -> Self {
        Self::of_event("the EventSchema of the event's type can't be used by this dispatcher")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(keyword) = &self.keyword else { return f.write_str(&self.problem) };
        let place = if self.pointer.is_empty() { "the data" } else { &self.pointer };
        write!(f, "{place}: {}: {keyword}", self.problem)?;
        self.version.as_ref().map_or(Ok(()), |version| write!(f, " (schema version {version})"))
    }
}
