//! Slots share owned work out to dispatchers. A Subscription belongs to a slot for good, and a slot to one dispatcher at
//! a time.

use std::collections::BTreeSet;

use crate::nats::ids::SubscriptionUid;

/// The number of slots. A change of it is a migration.
pub const SLOTS: u8 = 64;

/// The slot of a Subscription.
#[must_use]
pub fn slot(subscription: &SubscriptionUid) -> u8 {
    let digest = ring::digest::digest(&ring::digest::SHA256, subscription.as_str().as_bytes());
    digest.as_ref()[0] % SLOTS
}

/// The most slots that one of `live` dispatchers has.
#[must_use]
pub fn share(live: usize) -> usize {
    usize::from(SLOTS).div_ceil(live.max(1))
}

/// The slots that a dispatcher gives up, because it has more than its share: the highest.
pub fn surplus(owned: &BTreeSet<u8>, live: usize) -> impl Iterator<Item = u8> + '_ {
    owned.iter().copied().skip(share(live))
}

/// The free slots that a dispatcher takes. `offset` differs between dispatchers, so that they begin at different slots.
pub fn wanted<'a>(
    owned: &'a BTreeSet<u8>,
    taken: &'a BTreeSet<u8>,
    live: usize,
    offset: u8,
) -> impl Iterator<Item = u8> + 'a {
    let room = share(live).saturating_sub(owned.len());
    let all = (0..SLOTS).map(move |n| (n + offset % SLOTS) % SLOTS);
    all.filter(|slot| !owned.contains(slot) && !taken.contains(slot)).take(room)
}
