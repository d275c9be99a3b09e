//! Requests to NATS, and Hookwright's own streams, buckets and consumers there.
//!
//! The reconciles, `background` and `health` call this room. It knows `settings` and `readiness` only.

pub(crate) mod configs;
pub(crate) mod consumers;
pub(crate) mod drift;
pub(crate) mod jetstream;
pub(crate) mod kv;
pub(crate) mod last_event;
pub(crate) mod system;
pub(crate) mod tombstones;
