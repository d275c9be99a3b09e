//! Filters: which events of the types that a Subscription selects it gets.
//!
//! A Subscription's filters are all to be passed. Each is compiled once, when the record is loaded, with the same code
//! that the operator accepted it with. An error of an evaluation is never a match, nor is its negation.

mod compiled;
pub mod sql;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use compiled::{Filters, InvalidFilter, Verdict};

/// The most filters in a list, and the most attributes of an `exact`, `prefix` or `suffix`.
pub const MAX_LIST: usize = 10;
/// The deepest nesting of filters in `all`, `any` and `not`.
pub const MAX_DEPTH: usize = 3;
/// The longest value of an attribute in a filter, in bytes.
pub const MAX_VALUE: usize = 1024;

/// A filter as a record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Filter {
    /// All these attributes have these values.
    Exact(BTreeMap<String, String>),
    /// All these attributes begin with these values.
    Prefix(BTreeMap<String, String>),
    /// All these attributes end with these values.
    Suffix(BTreeMap<String, String>),
    /// All these filters pass.
    All(Vec<Filter>),
    /// One of these filters passes.
    Any(Vec<Filter>),
    /// The filter doesn't pass.
    Not(Box<Filter>),
    /// CloudEvents SQL.
    Sql(String),
    /// JMESPath.
    Jmespath(String),
    /// CEL.
    Cel(String),
}

#[cfg(test)]
mod tests;
