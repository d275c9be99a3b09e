//! What the operator knows: plain state that watches, mirrors and reconciles fill, and that reconciles read.
//!
//! Nothing in this room does work of its own. It may be used from everywhere, and uses no other room: no type here knows
//! `Context`.

pub(crate) mod absent;
pub(crate) mod agenda;
pub(crate) mod failures;
pub(crate) mod fences;
pub(crate) mod health;
pub(crate) mod identities;
pub(crate) mod kind;
pub(crate) mod leases;
pub(crate) mod namespaces;
pub(crate) mod orphans;
pub(crate) mod overcommitted;
pub(crate) mod own_writes;
pub(crate) mod pace;
pub(crate) mod producers;
pub(crate) mod progress;
pub(crate) mod references;
pub(crate) mod schema_checks;
pub(crate) mod schema_violations;
pub(crate) mod secrets;
pub(crate) mod services;
pub(crate) mod settled_schemas;
pub(crate) mod shared;
pub(crate) mod stream_heads;
pub(crate) mod stream_incidents;
pub(crate) mod stream_numbers;
pub(crate) mod stream_sizes;
pub(crate) mod unreadable;
