//! What runs beside the reconciles, at intervals of its own.

pub(crate) mod checkpoint;
pub(crate) mod overdue;
pub(crate) mod schema_violations;
pub(crate) mod stream_incidents;
pub(crate) mod sweep;
pub(crate) mod unreadable;
