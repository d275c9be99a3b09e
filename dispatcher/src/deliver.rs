//! Takes events and due deliveries, attempts them, and stores what follows.
//!
//! ```text
//! fan_out (sift: filters) | due -> queued (lane, then the dispatcher's attempts) -> turn (attempt) -> done | follow -> parked or given up
//! ```
//!
//! `intake` calls [`deliverer::Deliverer::fan_out`] and [`deliverer::Deliverer::deliver_due`], and `catch_up` queues the
//! deliveries of Subscriptions that are behind. No other room calls this one.

pub(crate) mod attempt;
pub(crate) mod behind;
pub(crate) mod deliverer;
pub(crate) mod delivery;
pub(crate) mod due;
pub(crate) mod fan_out;
pub(crate) mod follow;
pub(crate) mod give_up;
pub(crate) mod panicked;
pub(crate) mod queued;
pub(crate) mod queues;
pub(crate) mod reading;
mod redact;
pub(crate) mod sift;
pub(crate) mod spare;
pub(crate) mod test_delivery;
mod turn;
mod views;
