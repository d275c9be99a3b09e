//! An event as it was published: what a message says in each of its forms, and which type it has.

pub mod event_type;
mod read;

pub use read::*;
