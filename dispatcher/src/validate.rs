//! Events held against their schemas, off the hot path where that takes long.

pub(crate) mod fair_queue;
pub(crate) mod schema_violations;
pub(crate) mod validator;
