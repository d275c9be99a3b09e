//! Events as they were published: reading a message in each of its forms, and the event's type.

pub mod event_type;
mod read;

pub use read::*;
