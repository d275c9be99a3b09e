//! What is stored in NATS: deliveries to be tried again, dead letters, and how much of them there may be.
//!
//! `deliver` stores; `intake` asks whether too much is parked to take in events.

pub(crate) mod messages;
pub(crate) mod parked_budget;
pub(crate) mod quota;
pub(crate) mod store;
