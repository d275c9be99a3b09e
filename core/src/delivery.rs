//! A delivery is one event for one Subscription: its identity, the policy for it, what came of its attempts, and what follows.

pub mod backoff;
pub mod decide;
pub mod health;
pub mod id;
pub mod outcome;
pub mod parked;
pub mod policy;
pub mod quota;
pub mod test_delivery;
