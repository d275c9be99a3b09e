//! Brings what the dispatchers count into the status of Subscriptions.
//!
//! The counts themselves are in `cache::health`. `writer` writes their sums under a field manager of its own, so that the
//! reconciler and this room never undo each other. A change of health is written first; a change of counts alone waits
//! until the last write is 10 s old; all writes together keep to 20 a second.
//!
//! `fold` adds the counts of dispatchers that have gone to one key. `correct` compares `retrying` with the stream of
//! parked deliveries, as a crash of a dispatcher leaves it wrong.
//!
//! `cursors` reads how far the readers of Subscriptions that are behind have come; `flow` says what follows.
//!
//! Only `run` calls this room.

mod activity;
mod base;
pub(crate) mod correct;
pub(crate) mod cursors;
pub(crate) mod disable;
mod filters;
mod flow;
pub(crate) mod fold;
mod summary;
pub(crate) mod writer;
