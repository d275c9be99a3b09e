//! Names and ids in NATS: streams, buckets, keys and subjects, the ids that stand in them, and what is known of a stream.

pub mod delivery_id;
pub mod ids;
pub mod loss;
pub mod names;
pub mod subject;
