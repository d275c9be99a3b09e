//! Event schemas: JSON Schemas for the data of an event type, by version.
//!
//! A tenant writes the schema, so it is hostile input. Before a schema is compiled, it is read into a tree in which
//! each `$ref` is followed. References stay within the document and don't lead back to themselves: the tree is finite,
//! and its size bounds the cost of validating an event. [`check`] refuses everything else. Nothing is ever fetched: no
//! file, no URL. Patterns run in linear time. A violation names the place and the keyword, never the value.

mod bounds;
mod canonical;
mod check;
mod compat;
mod compiled;
mod data;
mod draft;
mod flaw;
mod names;
mod patterns;
mod tree;
mod tree_budget;
mod unevaluated;
mod version;
mod violation;
mod work;

pub use check::{check, check_edit};
pub use compiled::EventSchema;
pub use data::Instance;
pub use flaw::{MAX_BYTES, MAX_VERSIONS, SchemaError, SchemaPlace};
pub use version::{InvalidVersion, SchemaVersion, VersionedSchema};
pub use violation::Violation;

/// The digest of the published parts of a version, its schema and its URI, in 32 hexadecimal digits. The order of names
/// within the schema doesn't matter.
#[must_use]
pub fn digest(version: &VersionedSchema) -> String {
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
