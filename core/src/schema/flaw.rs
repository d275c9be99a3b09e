//! What is wrong with a schema, and where.

use std::fmt;
use std::rc::Rc;

use super::version::SchemaVersion;

/// How large the schemas of all versions of an event type may be together, in bytes of JSON.
pub const MAX_BYTES: usize = 256 * 1024;
/// How many versions an event type may have.
pub const MAX_VERSIONS: usize = 20;
/// How deep the JSON of a schema may be nested.
pub(super) const MAX_JSON_DEPTH: usize = 64;

/// What is wrong with a schema, and where in its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) pointer: String,
    pub(super) problem: String,
}

impl Flaw {
    pub(super) fn at(pointer: &Pointer, problem: impl Into<String>) -> Self {
        Self { pointer: pointer.to_string(), problem: problem.into() }
    }
}

/// Why the versions of an event type can't be accepted. The text has at most about 500 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A schema can't be compiled, or is beyond the bounds.
    #[error("version {version}: {place}: {problem}")]
    Invalid {
        /// Of which version.
        version: String,
        /// Where in its document.
        place: Place,
        /// What is wrong.
        problem: String,
    },
    /// A version doesn't accept all that an older one of its major version accepts.
    #[error("version {version} is not compatible with {older}: {place}: {problem}")]
    Incompatible {
        /// The newer version.
        version: String,
        /// The older one.
        older: String,
        /// Where in the newer one's document.
        place: Place,
        /// What is wrong.
        problem: String,
    },
    /// Two versions are the same number.
    #[error("versions {0} and {1} are the same")]
    SameVersion(String, String),
    /// Two versions have the same URI.
    #[error("versions {0} and {1} have the same uri")]
    SameUri(String, String),
    /// All schemas together are too large.
    #[error("the schemas have {0} bytes; {MAX_BYTES} are allowed for all versions together")]
    TooLarge(usize),
    /// None, or too many.
    #[error("{0} versions; 1 to {MAX_VERSIONS} are allowed")]
    Count(usize),
}

/// A JSON pointer into a schema, shown shortened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(pub String);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.chars().count() {
            0 => f.write_str("at the top"),
            1..=256 => f.write_str(&self.0),
            _ => write!(f, "{}...", self.0.chars().take(256).collect::<String>()),
        }
    }
}

/// A place in a document, as a JSON pointer.
#[derive(Clone, Default)]
pub(super) struct Pointer(Option<Rc<(Pointer, String)>>);

impl Pointer {
    pub(super) fn join(&self, token: impl Into<String>) -> Self {
        Self(Some(Rc::new((self.clone(), token.into()))))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = &self.0 else { return Ok(()) };
        write!(f, "{}/{}", last.0, last.1.replace('~', "~0").replace('/', "~1"))
    }
}

pub(super) fn invalid(version: &SchemaVersion, flaw: Flaw) -> SchemaError {
    SchemaError::Invalid { version: version.to_string(), place: Place(flaw.pointer), problem: flaw.problem }
}
