//! Errors in schemas: the problem, and its place in the document.

use std::fmt;
use std::rc::Rc;

use super::version::SchemaVersion;

/// The largest size of all versions' schemas of an event type together, in bytes of JSON.
pub const MAX_BYTES: usize = 256 * 1024;
/// The most versions that an event type may have.
pub const MAX_VERSIONS: usize = 20;
/// The deepest nesting of a schema's JSON.
pub(super) const MAX_JSON_DEPTH: usize = 64;

/// A problem in a schema, and its place in the document as a JSON pointer.
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

/// Why the versions of an event type are not accepted. The text has at most about 500 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A schema can't be compiled, or is beyond the bounds.
    #[error("version {version}: {place}: {problem}")]
    Invalid {
        /// The version with the schema.
        version: String,
        /// The place in the schema.
        place: SchemaPlace,
        /// The problem there.
        problem: String,
    },
    /// A version doesn't accept everything that an older one of its major version accepts.
    #[error("version {version} is not compatible with {older}: {place}: {problem}")]
    Incompatible {
        /// The newer version.
        version: String,
        /// The older version.
        older: String,
        /// The place in the newer version's schema.
        place: SchemaPlace,
        /// The problem there.
        problem: String,
    },
    /// Two versions are equal as numbers.
    #[error("versions {0} and {1} are the same")]
    SameVersion(String, String),
    /// Two versions have the same URI.
    #[error("versions {0} and {1} have the same uri")]
    SameUri(String, String),
    /// All schemas together have too many bytes.
    #[error("the schemas have {0} bytes; {MAX_BYTES} are allowed for all versions together")]
    TooLarge(usize),
    /// The event type has no version, or too many.
    #[error("{0} versions; 1 to {MAX_VERSIONS} are allowed")]
    Count(usize),
}

/// The place of a problem in a schema: a JSON pointer, shown with at most 256 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaPlace(pub String);

impl fmt::Display for SchemaPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.chars().count() {
            0 => f.write_str("at the top"),
            1..=256 => f.write_str(&self.0),
            _ => write!(f, "{}...", self.0.chars().take(256).collect::<String>()),
        }
    }
}

/// A JSON pointer that shares its parents with other pointers.
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
    SchemaError::Invalid { version: version.to_string(), place: SchemaPlace(flaw.pointer), problem: flaw.problem }
}
