//! The signed request and how it is sent: the endpoint as requests need it, the one client, its connections, and the egress
//! guard where it dials.
//!
//! `config` prepares endpoints with this room, and `deliver` sends with it.

pub(crate) mod dial;
pub(crate) mod endpoint;
pub(crate) mod guard;
pub(crate) mod request;
pub(crate) mod sender;
