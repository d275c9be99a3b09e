//! Validates events against their schemas, off the hot path if that takes long, and counts violations.
//!
//! `deliver` asks for violations; `intake` asks whether a Producer's queue is long.

pub(crate) mod fair_queue;
pub(crate) mod schema_violations;
pub(crate) mod validator;
