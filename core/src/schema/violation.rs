//! How an event violates its schema.

use std::fmt;

/// An event's data is not as its schema says. Never the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The version it was held against.
    pub version: Option<String>,
    /// Where in the data, as a JSON pointer; empty for the data as a whole.
    pub pointer: String,
    /// The keyword of the schema that it violates; none if no schema was reached.
    pub keyword: Option<String>,
    /// What is wrong, where no keyword says it.
    pub problem: &'static str,
}

impl Violation {
    pub(super) fn of_event(problem: &'static str) -> Self {
        Self { version: None, pointer: String::new(), keyword: None, problem }
    }

    /// The event's type has no schema.
    #[must_use]
    pub fn no_schema() -> Self {
        Self::of_event("the event's type has no EventSchema")
    }

    /// The EventSchema of the event's type can't be compiled by whoever validates.
    #[must_use]
    pub fn unusable_schema() -> Self {
        Self::of_event("the EventSchema of the event's type can't be used by this dispatcher")
    }

    /// Validating it came to no result.
    #[must_use]
    pub fn failed() -> Self {
        Self::of_event("validating the event failed")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(keyword) = &self.keyword else { return f.write_str(self.problem) };
        let place = if self.pointer.is_empty() { "the data" } else { &self.pointer };
        write!(f, "{place}: {}: {keyword}", self.problem)?;
        self.version.as_ref().map_or(Ok(()), |version| write!(f, " (schema version {version})"))
    }
}
