//! Who is reconciled again, and when; and what the reconciles of all kinds share.
//!
//! The reconciles of the three kinds and `background` call this room. Nothing here knows `Context`.

pub(crate) mod deletion;
pub(crate) mod error;
pub(crate) mod failures;
pub(crate) mod programmed;
pub(crate) mod triggers;
