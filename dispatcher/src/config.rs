//! The configuration as the dispatcher has it: records from NATS, prepared once for all deliveries.

pub(crate) mod disabled;
pub(crate) mod index;
pub(crate) mod loader;
pub(crate) mod schema;
pub(crate) mod subscription;
