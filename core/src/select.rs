//! Which Subscriptions get an event: what each selects, and the index that matches an event against all of them.

pub mod index;
mod selection;

pub use selection::Selection;
