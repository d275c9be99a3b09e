//! Which versions of an event type are accepted.

use super::compat::Comparison;
use super::compiled::{self, Room};
use super::flaw::{MAX_BYTES, MAX_VERSIONS, Place, SchemaError, invalid};
use super::version::{SchemaVersion, VersionedSchema};

/// Checks all versions of an event type: that each compiles within the bounds, and that within a major version each
/// accepts everything that the older ones accept.
///
/// # Errors
/// The first that is wrong.
pub fn check(versions: &[VersionedSchema]) -> Result<(), SchemaError> {
    check_edit(versions, &[])
}

/// Checks what [`check`] does, and that a new version accepts what the older ones `in_force` accept, also if the edit
/// leaves them out: else the rule could be evaded by replacing a version with the next one.
///
/// # Errors
/// The first that is wrong.
pub fn check_edit(versions: &[VersionedSchema], in_force: &[VersionedSchema]) -> Result<(), SchemaError> {
    if !(1..=MAX_VERSIONS).contains(&versions.len()) {
        return Err(SchemaError::Count(versions.len()));
    }
    let bytes = versions.iter().map(|version| version.json_schema.to_string().len()).sum();
    if bytes > MAX_BYTES {
        return Err(SchemaError::TooLarge(bytes));
    }
    let mut sorted: Vec<&VersionedSchema> = versions.iter().collect();
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
    let has = |list: &[VersionedSchema], version: &SchemaVersion| list.iter().any(|other| other.version == *version);
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
