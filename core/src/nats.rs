//! Names and ids in NATS: of streams, buckets, keys and subjects; and the count of events that a stream lost.

pub mod delivery_id;
pub mod ids;
pub mod loss;
pub mod names;
pub mod subject;
