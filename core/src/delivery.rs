//! A delivery is one event for one Subscription: the policy for it, what came of its attempts and what follows, what is
//! stored of it, and how healthy its Subscription is.

pub mod backoff;
pub mod dead_letter;
pub mod decide;
pub mod event_ref;
pub mod health;
pub mod millis;
pub mod outcome;
pub mod parked;
pub mod policy;
pub mod progress;
pub mod quota;
pub mod test_delivery;
