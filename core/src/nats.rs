//! Names and ids in NATS: of streams, buckets, keys and subjects; the count of events that a stream lost; and what is known
//! of a stream that was restored.

pub mod delivery_id;
pub mod ids;
pub mod installation;
pub mod last_event;
pub mod loss;
pub mod names;
pub mod subject;
