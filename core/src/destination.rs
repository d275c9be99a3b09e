//! Where deliveries go: the destination with its headers and secrets, and which URLs and addresses may be dialled.

pub mod egress;
mod endpoint;

pub use endpoint::{Destination, Header, HeaderValue};
