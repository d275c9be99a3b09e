//! Event schemas: what the data of an event type looks like, by version.
//!
//! A schema is written by a tenant, so it is hostile input. Before it is compiled it is read into a tree in which each
//! `$ref` is followed ([`check`] says what is refused): references stay within the document and don't lead back to
//! themselves, so that the tree is finite and what an event can cost is known before it is looked at. Nothing is ever
//! fetched: no file, no URL. Patterns run in linear time, and a violation names place and keyword, never the value.

mod bounds;
mod canonical;
mod check;
mod compat;
mod compiled;
mod data;
mod flaw;
mod patterns;
mod tree;
mod version;
mod violation;
mod work;

pub use check::{check, check_edit};
pub use compiled::EventSchema;
pub use data::Instance;
pub use flaw::{MAX_BYTES, MAX_VERSIONS, Place, SchemaError};
pub use version::{InvalidVersion, SchemaVersion, VersionedSchema};
pub use violation::Violation;

/// A digest of what is published of a version: its schema and its URI, whatever the order of names. Hexadecimal.
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
