//! What is stored in NATS: deliveries to be tried again, and dead letters.

pub(crate) mod messages;
pub(crate) mod parked_budget;
pub(crate) mod quota;
pub(crate) mod store;
