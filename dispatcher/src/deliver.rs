//! From an event, or a parked delivery that is due, to attempts and what follows from them.

pub(crate) mod attempt;
pub(crate) mod due;
pub(crate) mod fan_out;
pub(crate) mod queued;
pub(crate) mod test_delivery;
