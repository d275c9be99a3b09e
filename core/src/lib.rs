//! The domain of Hookwright, without I/O.
//!
//! This crate decides everything subtle: which Subscriptions an event matches, which identity a delivery has, how it is
//! signed, what follows an attempt's outcome, which addresses may be dialled, and which records operator and dispatchers
//! exchange. Time and randomness arrive as arguments.
//!
//! **Architecture invariant**: no tokio, kube, async-nats or hyper here, no clock and no random number generator.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::too_many_lines, reason = "a test's table may be long"))]

pub mod codec;
pub mod delivery;
pub mod destination;
pub mod event;
pub mod expression;
pub mod nats;
pub mod payload;
pub mod position;
pub mod quantity;
pub mod record;
pub mod schema;
pub mod seal;
pub mod select;
pub mod sign;
