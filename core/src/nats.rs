//! Names, ids and subjects in NATS, and what is known of a stream.

pub mod ids;
pub mod loss;
pub mod names;
pub mod subject;
