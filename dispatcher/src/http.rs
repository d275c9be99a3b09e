//! The signed request, and how it is sent.

pub(crate) mod dial;
pub(crate) mod guard;
pub(crate) mod request;
pub(crate) mod sender;
