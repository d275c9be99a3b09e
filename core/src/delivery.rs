//! Deliveries: a delivery is one event for one Subscription.
//!
//! The modules define the policy of a delivery, the outcomes of its attempts and what follows them, the records that
//! are stored of it, and the health of its Subscription.

pub mod backoff;
pub mod breaker;
pub mod dead_letter;
pub mod decide;
pub mod event_headers;
pub mod event_ref;
pub mod health;
pub mod millis;
pub mod outcome;
pub mod parked;
pub mod policy;
pub mod postpone;
pub mod progress;
pub mod quota;
pub mod test_delivery;
