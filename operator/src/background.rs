//! What runs beside the reconciles, at intervals of its own.

pub(crate) mod checkpoint;
pub(crate) mod namespaces;
pub(crate) mod overdue;
pub(crate) mod stream_numbers;
pub(crate) mod sweep;
mod unreadable;
