//! What is remembered between reconciles.

pub(crate) mod namespaces;
pub(crate) mod own_writes;
pub(crate) mod producers;
pub(crate) mod schema_checks;
