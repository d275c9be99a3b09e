//! Requests to NATS, and Hookwright's own streams and buckets.

pub(crate) mod jetstream;
pub(crate) mod kv;
pub(crate) mod system;
