//! Limits how much a dispatcher takes on: events and bytes in memory (`budget`), deliveries that are read ahead
//! (`read_ahead`), deliveries of each Subscription that wait or are attempted (`lane`) and attempts that begin
//! (`attempts`). `shares` and `turns` have the rules by which namespaces and Subscriptions share these. `slowness` tells
//! whether the dispatcher itself is slow, and `outage` whether this side is at fault when nobody answers.
//!
//! It knows nothing of deliveries: the type that waits is a type
//! parameter.

pub(crate) mod attempts;
pub(crate) mod budget;
pub(crate) mod lane;
pub(crate) mod outage;
pub(crate) mod read_ahead;
pub(crate) mod shares;
pub(crate) mod slowness;
pub(crate) mod sockets;
pub(crate) mod turns;
