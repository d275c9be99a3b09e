//! Builds signed requests and sends them: the endpoint as requests need it, the one client, its connections, and the
//! egress guard that vets each address before it is dialled.
//!
//! `config` prepares endpoints with this room, and `deliver` sends with it.

pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod endpoint;
pub(crate) mod eyeballs;
pub(crate) mod failure;
pub(crate) mod guard;
pub(crate) mod pool;
pub(crate) mod proxy;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod sender;
