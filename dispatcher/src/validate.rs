//! Events held against their schemas, off the hot path where that takes long, and how many violated them.
//!
//! `deliver` asks for verdicts; `intake` asks whether a Producer's queue is long.

pub(crate) mod fair_queue;
pub(crate) mod schema_violations;
pub(crate) mod validator;
