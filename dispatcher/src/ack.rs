//! Messages in hand: each is kept by in-progress acks while work on it goes on, and acked when all of its parts are settled.
//!
//! `intake` puts messages in here and `deliver` settles them. This room knows nothing of deliveries: what an attempt holds
//! until the ack has left is a type parameter.

pub(crate) mod batch;
pub(crate) mod hold;
