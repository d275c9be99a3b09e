//! Conditions, Events, and how status is written.

pub(crate) mod budget;
pub(crate) mod conditions;
pub(crate) mod events;
pub(crate) mod write;
