//! Destinations of deliveries: the URL with its headers and secrets, and the rules for which URLs and addresses may be
//! dialled.

pub mod egress;
mod endpoint;

pub use endpoint::{Destination, Header, HeaderValue};
