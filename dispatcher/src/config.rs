//! The configuration as the dispatcher has it: records from NATS, each prepared once for all deliveries.
//!
//! `loader` and `disabled` follow NATS; every other room only reads the index.

pub(crate) mod disabled;
pub(crate) mod index;
pub(crate) mod loader;
pub(crate) mod schema;
pub(crate) mod subscription;
