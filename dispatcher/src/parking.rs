//! Stores parked deliveries and dead letters in NATS, and limits how much may be parked.
//!
//! `deliver` stores; `intake` asks whether too much is parked to read new events.

pub(crate) mod dead_letter_budget;
pub(crate) mod elsewhere;
pub(crate) mod messages;
pub(crate) mod parked_budget;
pub(crate) mod parked_stream;
pub(crate) mod quota;
pub(crate) mod store;
