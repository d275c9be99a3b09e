//! From JetStream into memory: pulls, and how much is taken in. `run` starts the readers; nobody else calls this room.

pub(crate) mod budget;
pub(crate) mod pull;
pub(crate) mod read_ahead;
pub(crate) mod reader;
pub(crate) mod readers;
