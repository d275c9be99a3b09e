//! Messages in hand: kept while work on them goes on, acked when all of it is settled.

pub(crate) mod batch;
pub(crate) mod hold;
