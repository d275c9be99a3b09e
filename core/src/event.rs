//! Events as they were published: reading a message in each of its forms, and the event's type.

mod attributes;
pub mod event_type;
mod malformed;
mod read;
mod shared;
pub(crate) mod structured;

pub use attributes::attribute_value;
pub(crate) use attributes::field_value;
pub use malformed::Malformed;
pub use read::*;
pub use shared::Shared;
