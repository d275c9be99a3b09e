//! The domain of Hookwright, pure.
//!
//! Everything subtle is decided here: which subscription an event matches, what a delivery's identity is, how it is
//! signed, what follows an attempt's outcome, which addresses may be dialled, and how the records look that operator
//! and dispatcher exchange. Time and randomness arrive as arguments.
//!
//! **Architecture invariant**: no tokio, kube, async-nats or hyper here, no clock and no random number generator.
#![deny(missing_docs)]

pub mod codec;
pub mod delivery;
pub mod destination;
pub mod event;
pub mod nats;
pub mod quantity;
pub mod record;
pub mod schema;
pub mod seal;
pub mod select;
pub mod sign;
