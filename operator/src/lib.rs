//! The operator of Hookwright. It turns Producers, EventSchemas and Subscriptions into streams, consumers and records
//! in NATS, and it writes what dispatchers report about deliveries into status.
//!
//! Each kind is reconciled in five steps, a file each: `fetch`, `validate`, `build`, `apply`, `status`. `validate` and
//! `build` are synchronous and take no client; what they return is proof for the next step. `health` writes the part of
//! a Subscription's status that the dispatchers count, under a field manager of its own.
//!
//! Imports between rooms point one way. `cache` and `nats` use no room that acts. `status` and `reconcile` use these two.
//! `context` holds the state of all four. The three kinds, `health` and `background` use `context`. `controllers` and
//! `run` use the kinds.
//!
//! **Architecture invariant**: the operator never lists or watches Secrets. It changes nothing in NATS but Hookwright's
//! own streams and buckets, and streams and consumers that are marked with the uid of the Producer that owns them. A
//! Subscription without a grant gets no events.

mod background;
mod cache;
mod context;
mod controllers;
mod definitions;
mod event_schema;
mod faults;
mod health;
mod installation;
pub mod kubernetes;
mod lenient;
pub mod make_secrets;
mod metrics;
mod named;
mod nats;
mod payload_policies;
mod producer;
pub mod quotas;
mod readiness;
mod reconcile;
mod refusal;
pub mod release;
pub mod run;
mod secrets;
pub mod served;
mod services;
pub mod settings;
mod status;
mod subscription;
pub mod tenancy;
