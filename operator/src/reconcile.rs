//! When objects are reconciled again, and what the reconciles of all kinds share: triggers, who is told of failures,
//! the rollout to the dispatchers, deletions and the error type.
//!
//! The reconciles of the three kinds, `controllers` and `background` call this room. Nothing here knows `Context`.

pub(crate) mod deletion;
pub(crate) mod error;
pub(crate) mod fenced;
pub(crate) mod identity;
pub(crate) mod panics;
pub(crate) mod programmed;
pub(crate) mod told;
pub(crate) mod triggers;
