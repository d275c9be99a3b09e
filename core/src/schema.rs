//! Event schemas: what the data of an event type looks like, by version.
//!
//! A schema is written by a tenant, so it is hostile input. Before it is compiled it is read into a tree in which each
//! `$ref` is followed ([`check`] says what is refused): references stay within the document and don't lead back to
//! themselves, so that the tree is finite and what an event can cost is known before it is looked at. Nothing is ever
//! fetched: no file, no URL. Patterns run in linear time, and a violation names place and keyword, never the value.

mod bounds;
mod canonical;
mod compat;
mod compiled;
mod data;
mod patterns;
mod tree;
mod version;
mod work;

use std::fmt;

pub use compiled::{EventSchema, Violation};
pub use data::Subject;
pub use version::{InvalidVersion, SchemaVersion};

use crate::record::SchemaVersionRecord;
use compat::Comparison;
use tree::Pointer;

/// How large the schemas of all versions of an event type may be together, in bytes of JSON.
pub const MAX_BYTES: usize = 256 * 1024;
/// How many versions an event type may have.
pub const MAX_VERSIONS: usize = 20;
/// How deep the JSON of a schema may be nested.
const MAX_JSON_DEPTH: usize = 64;

/// What is wrong with a schema, and where in its document.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flaw {
    pointer: String,
    problem: String,
}

impl Flaw {
    fn at(pointer: &Pointer, problem: impl Into<String>) -> Self {
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

/// Checks all versions of an event type: that each compiles within the bounds, and that within a major version each
/// accepts everything that the older ones accept.
///
/// # Errors
/// The first that is wrong.
pub fn check(versions: &[SchemaVersionRecord]) -> Result<(), SchemaError> {
    check_edit(versions, &[])
}

/// Checks what [`check`] does, and that a new version accepts what the older ones `in_force` accept, also if the edit
/// leaves them out: else the rule could be evaded by replacing a version with the next one.
///
/// # Errors
/// The first that is wrong.
pub fn check_edit(versions: &[SchemaVersionRecord], in_force: &[SchemaVersionRecord]) -> Result<(), SchemaError> {
    if !(1..=MAX_VERSIONS).contains(&versions.len()) {
        return Err(SchemaError::Count(versions.len()));
    }
    let bytes = versions.iter().map(|version| version.json_schema.to_string().len()).sum();
    if bytes > MAX_BYTES {
        return Err(SchemaError::TooLarge(bytes));
    }
    let mut sorted: Vec<&SchemaVersionRecord> = versions.iter().collect();
    sorted.sort_by(|a, b| a.version.cmp(&b.version));
    for pair in sorted.windows(2) {
        if pair[0].version == pair[1].version {
            return Err(SchemaError::SameVersion(pair[0].version.to_string(), pair[1].version.to_string()));
        }
    }
    for (i, a) in sorted.iter().enumerate() {
        if let Some(b) = sorted[..i].iter().find(|b| a.uri.is_some() && a.uri == b.uri) {
            return Err(SchemaError::SameUri(b.version.to_string(), a.version.to_string()));
        }
    }
    let mut room = Room::default();
    let mut schemas = Vec::with_capacity(sorted.len());
    for version in &sorted {
        let invalid = |flaw| invalid(&version.version, flaw);
        let schema = compiled::read(&version.json_schema, &mut room).map_err(invalid)?;
        schema.compile(&mut room).map_err(invalid)?;
        schemas.push((&version.version, schema));
    }
    let mut comparison = Comparison::default();
    for (i, new) in schemas.iter().enumerate() {
        for old in schemas[..i].iter().filter(|old| old.0.major() == new.0.major()) {
            compare(&mut comparison, new, old)?;
        }
    }
    let has =
        |list: &[SchemaVersionRecord], version: &SchemaVersion| list.iter().any(|other| other.version == *version);
    let mut room = Room::default();
    for old in in_force.iter().filter(|old| !has(versions, &old.version)) {
        let follows = |new: &&Numbered<'_>| new.0.major() == old.version.major() && *new.0 > old.version;
        let mut new = schemas.iter().filter(follows).filter(|new| !has(in_force, new.0)).peekable();
        if new.peek().is_none() {
            continue;
        }
        let schema = compiled::read(&old.json_schema, &mut room).map_err(|flaw| invalid(&old.version, flaw))?;
        let old = (&old.version, schema);
        new.try_for_each(|new| compare(&mut comparison, new, &old))?;
    }
    Ok(())
}

/// A version and its schema.
type Numbered<'a> = (&'a SchemaVersion, compiled::Schema<'a>);

fn compare(comparison: &mut Comparison, new: &Numbered<'_>, old: &Numbered<'_>) -> Result<(), SchemaError> {
    comparison.schemas(&new.1, &old.1).map_err(|flaw| SchemaError::Incompatible {
        version: new.0.to_string(),
        older: old.0.to_string(),
        place: Place(flaw.pointer),
        problem: flaw.problem,
    })
}

/// What is left of the memory that the schemas of an event type may take when compiled, all versions together.
#[derive(Default)]
struct Room {
    trees: tree::Room,
    patterns: patterns::Room,
}

fn invalid(version: &SchemaVersion, flaw: Flaw) -> SchemaError {
    SchemaError::Invalid { version: version.to_string(), place: Place(flaw.pointer), problem: flaw.problem }
}

/// A digest of what is published of a version: its schema and its URI, whatever the order of names. Hexadecimal.
#[must_use]
pub fn digest(version: &SchemaVersionRecord) -> String {
    let mut text = version.uri.as_deref().map(|uri| format!("{}:{uri}", uri.len())).unwrap_or_default();
    text.push_str(&canonical::canonical(&version.json_schema));
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    data_encoding::HEXLOWER.encode(&digest.as_ref()[..16])
}

#[cfg(test)]
mod compat_tests;
#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod tests;
