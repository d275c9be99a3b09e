//! The check of all versions of an event type: whether they are accepted.

use super::compat::Comparison;
use super::compiled::{self, SchemaBudget};
use super::flaw::{MAX_BYTES, MAX_VERSIONS, SchemaError, SchemaPlace, invalid};
use super::version::{SchemaVersion, VersionedSchema};

/// Checks all versions of an event type. Each version has to compile within the bounds, and within a major version each
/// has to accept everything that the older ones accept.
///
/// # Errors
/// The first problem that is found.
pub fn check(versions: &[VersionedSchema]) -> Result<(), SchemaError> {
    check_edit(versions, &[])
}

/// Checks an edit of an event type as [`check`] does, and against the versions `in_force` that the edit removes: a new
/// version has to accept what they accept. Otherwise an edit could evade the rule by replacing a version with the next.
///
/// # Errors
/// The first problem that is found.
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
    let mut budget = SchemaBudget::default();
    let mut schemas = Vec::with_capacity(sorted.len());
    for version in &sorted {
        let invalid = |flaw| invalid(&version.version, flaw);
        let schema = compiled::read(&version.json_schema, &mut budget).map_err(invalid)?;
        schema.compile(&mut budget).map_err(invalid)?;
        schemas.push((&version.version, schema));
    }
    let mut comparison = Comparison::default();
    for (i, new) in schemas.iter().enumerate() {
        for old in schemas[..i].iter().filter(|old| old.0.major() == new.0.major()) {
            compare(&mut comparison, new, old)?;
        }
    }
    let has = |list: &[VersionedSchema], version: &SchemaVersion| list.iter().any(|other| other.version == *version);
    let mut budget = SchemaBudget::default();
    for old in in_force.iter().filter(|old| !has(versions, &old.version)) {
        let follows = |new: &&Numbered<'_>| new.0.major() == old.version.major() && *new.0 > old.version;
        let mut new = schemas.iter().filter(follows).filter(|new| !has(in_force, new.0)).peekable();
        if new.peek().is_none() {
            continue;
        }
        let schema = compiled::read(&old.json_schema, &mut budget).map_err(|flaw| invalid(&old.version, flaw))?;
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
        place: SchemaPlace(flaw.pointer),
        problem: flaw.problem,
    })
}
