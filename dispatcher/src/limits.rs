//! Limits how much a dispatcher takes on: events and bytes in memory (`budget`), deliveries that wait (`read_ahead`),
//! attempts of each Subscription (`lane`) and of the whole dispatcher (`attempts`). `slowness` tells whether the
//! dispatcher itself is slow, and `outage` whether this side is at fault when nobody answers.
//!
//! It knows nothing of deliveries: the type that waits is a type
//! parameter.

pub(crate) mod attempts;
pub(crate) mod budget;
pub(crate) mod lane;
pub(crate) mod outage;
pub(crate) mod read_ahead;
pub(crate) mod slowness;
