//! Reads messages from JetStream: a reader for each Producer and one for due deliveries, and the explicit pulls that
//! they use.
//!
//! `run` starts [`readers::run`] and the reader of due deliveries. No other room calls this one.

pub(crate) mod bodiless;
pub(crate) mod connections;
pub(crate) mod pull;
pub(crate) mod reader;
pub(crate) mod readers;
mod unreadable_streams;
