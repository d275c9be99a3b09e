//! The dispatcher: JetStream in, signed webhooks out. [`run`] says how its parts fit together.
//!
//! It is a library with a small binary, as the operator is.

mod ack;
mod catch_up;
mod clock;
mod config;
mod deliver;
mod health;
mod http;
mod intake;
mod limits;
mod liveness;
mod loaded;
mod metrics;
mod observer;
mod panics;
mod parking;
mod position;
pub mod run;
pub mod settings;
mod shared_count;
mod validate;
