//! An event as it was published: what a message says, and what type it has.

pub mod event_type;
mod read;

pub use read::*;
