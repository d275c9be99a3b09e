//! The configuration as the dispatcher uses it. Each record from NATS is prepared once for all deliveries.
//!
//! `loader` and `disabled` follow NATS. All other rooms only read the index.

pub(crate) mod disabled;
pub(crate) mod features;
pub(crate) mod index;
pub(crate) mod loader;
pub(crate) mod passed_over;
pub(crate) mod schema;
pub(crate) mod subscription;
