//! Which Subscriptions get an event.

pub mod index;
