//! The operator's side of Hookwright: Producers, EventSchemas and Subscriptions become streams, consumers and
//! records in NATS; what dispatchers report about deliveries becomes status.
//!
//! Each kind is reconciled in five steps, a file each: `fetch`, `validate`, `build`, `apply`, `status`. `validate` and
//! `build` take no client and can't wait; what they return is proof for the next step. `health` writes the part of a
//! Subscription's status that the dispatchers count, under a field manager of its own.
//!
//! **Architecture invariant**: no list or watch of Secrets, and nothing in NATS is touched that isn't Hookwright's own
//! or marked with the uid of the Producer that owns it. Whoever is shut out of a Producer is served nothing.

mod background;
mod cache;
mod context;
mod controllers;
mod event_schema;
mod health;
mod metrics;
mod nats;
mod producer;
mod readiness;
mod reconcile;
mod refusal;
pub mod run;
mod secrets;
pub mod settings;
mod status;
mod subscription;
pub mod tenancy;
