//! Holds messages: in-progress acks keep a message while work on it goes on, and it is acked when all of its parts are
//! settled.
//!
//! `intake` puts messages in here, and `deliver` settles them. This room knows nothing of deliveries: the permit that a
//! message keeps until its ack has left is a type parameter.

pub(crate) mod batch;
pub(crate) mod hold;
