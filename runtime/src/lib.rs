//! The parts of a Hookwright process that contain no domain rule: settings, the egress file, logs, the connection to
//! NATS, mirrors of KV buckets, and the admin endpoint.
//!
//! **Architecture invariant**: nothing here knows Kubernetes, subscriptions or webhooks.

pub mod admin;
pub mod bucket;
pub mod direct_get;
pub mod egress;
pub mod leases;
pub mod logging;
pub mod mirror;
pub mod nats;
pub mod panics;
pub mod publish;
pub mod refusal;
pub mod removal;
pub mod sealing;
pub mod settings;
pub mod shutdown;
pub mod start;
