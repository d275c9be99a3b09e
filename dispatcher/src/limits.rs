//! How much a dispatcher takes on: events and bytes in memory (`budget`), deliveries that wait (`read_ahead`), attempts of
//! each Subscription (`lane`) and of the dispatcher (`attempts`). `slowness` tells when the dispatcher is the one that is slow.
//!
//! Both `intake` and `deliver` use this room. It knows nothing of deliveries: what waits is a type parameter.

pub(crate) mod attempts;
pub(crate) mod budget;
pub(crate) mod lane;
pub(crate) mod read_ahead;
pub(crate) mod slowness;
