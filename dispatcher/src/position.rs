//! The positions of Subscriptions that are behind. See [`hookwright_core::position`] for the rules.
//!
//! [`cells`] has what is known of each Subscription's position ([`cell`]), and [`positions`] stores a new one by
//! compare-and-set. `deliver` and `catch_up` use them.

pub(crate) mod cell;
pub(crate) mod cells;
pub(crate) mod cursors;
pub(crate) mod forward;
pub(crate) mod positions;
