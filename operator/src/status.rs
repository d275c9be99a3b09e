//! Conditions, Events, and the writes of status within their budget.
//!
//! The reconciles, `health` and `background` call this room. It knows `cache` and `metrics`, but not `Context`.

pub(crate) mod budget;
pub(crate) mod conditions;
pub(crate) mod events;
pub(crate) mod write;
