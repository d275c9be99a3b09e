//! The choice of Subscriptions for an event: the selection of each Subscription, and the index over all of them.

pub mod filter;
pub mod index;
mod selection;

pub use selection::{Selection, TypeVersion};
