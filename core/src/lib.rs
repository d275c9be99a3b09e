//! The domain of Hookwright, pure.
//!
//! Everything subtle is decided here: which subscription an event matches, what a delivery's identity is, how it is
//! signed, what follows an attempt's outcome, which addresses may be dialled, and how the records look that operator
//! and dispatcher exchange. Time and randomness arrive as arguments.
//!
//! **Architecture invariant**: no tokio, kube, async-nats or hyper here, no clock and no random number generator.
#![deny(missing_docs)]

pub mod backoff;
pub mod decide;
pub mod delivery_id;
pub mod egress;
pub mod event;
pub mod event_type;
pub mod health;
pub mod ids;
pub mod lease;
pub mod loss;
pub mod matcher;
pub mod names;
pub mod outcome;
pub mod parked;
pub mod policy;
pub mod quota;
pub mod record;
pub mod schema;
pub mod seal;
pub mod send_test;
pub mod signature;
pub mod subject;
