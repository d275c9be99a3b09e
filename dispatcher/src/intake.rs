//! From JetStream into memory: a reader for each Producer and one for due deliveries, and explicit pulls.
//!
//! `run` starts [`readers::run`] and the reader of due deliveries; nobody else calls this room.

pub(crate) mod pull;
pub(crate) mod reader;
pub(crate) mod readers;
