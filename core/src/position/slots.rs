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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = Vec<BTreeSet<u8>>;

    /// One after the other gives up its surplus and takes what is free. Whether anything changed.
    fn round(dispatchers: &mut Owned) -> bool {
        let live = dispatchers.len();
        let before = dispatchers.clone();
        for (offset, d) in (0_u8..).step_by(7).zip(0..live) {
            let given_up: Vec<u8> = surplus(&dispatchers[d], live).collect();
            dispatchers[d].retain(|slot| !given_up.contains(slot));
            let taken = dispatchers.iter().flatten().copied().collect();
            let new: Vec<u8> = wanted(&dispatchers[d], &taken, live, offset).collect();
            dispatchers[d].extend(new);
        }
        before != *dispatchers
    }

    fn settle(dispatchers: &mut Owned) {
        let rounds = (0..10).take_while(|_| round(dispatchers)).count();
        assert!(rounds <= 2, "{rounds} rounds for {} dispatchers", dispatchers.len());
        let all: Vec<u8> = dispatchers.iter().flatten().copied().collect();
        let once: BTreeSet<u8> = all.iter().copied().collect();
        assert_eq!((all.len(), once.len()), (usize::from(SLOTS), usize::from(SLOTS)));
        let share = share(dispatchers.len());
        assert!(dispatchers.iter().all(|owned| owned.len() <= share), "{dispatchers:?}");
        // The last one gets what the full shares of the others leave over.
        let least = usize::from(SLOTS).saturating_sub(share * (dispatchers.len() - 1));
        assert!(dispatchers.iter().all(|owned| owned.len() >= least), "{dispatchers:?}");
    }

    #[test]
    fn share_table() {
        for (live, want) in [(0, 64), (1, 64), (2, 32), (3, 22), (5, 13), (63, 2), (64, 1), (100, 1)] {
            assert_eq!(share(live), want, "{live}");
        }
    }

    #[test]
    fn surplus_and_wanted_table() {
        let slots = |slots: &[u8]| slots.iter().copied().collect::<BTreeSet<u8>>();
        let owned: BTreeSet<u8> = (0..34).collect();
        assert!(surplus(&owned, 2).eq([32, 33]));
        assert_eq!(surplus(&owned, 1).count(), 0);
        assert_eq!(wanted(&owned, &slots(&[]), 2, 0).count(), 0);
        assert!(wanted(&slots(&[0]), &slots(&[2]), 16, 0).eq([1, 3, 4]));
        // It begins at the offset and goes on at the start.
        assert!(wanted(&slots(&[]), &slots(&[63]), 16, 62).eq([62, 0, 1, 2]));
        assert!(wanted(&slots(&[]), &slots(&[]), 64, 255).eq([63]));
    }

    #[test]
    fn slots_are_spread_over_subscriptions() {
        let uid = |n: u32| SubscriptionUid::parse(&format!("subscription-{n}")).unwrap();
        let slots: BTreeSet<u8> = (0..1000).map(|n| slot(&uid(n))).collect();
        assert!(slots.iter().copied().eq(0..SLOTS));
        assert_eq!(slot(&uid(7)), slot(&uid(7)));
    }

    proptest! {
        /// However dispatchers join and leave, each slot soon has one owner, and none has more than its share.
        #[test]
        fn joins_and_leaves_converge(changes in prop::collection::vec((any::<bool>(), 0..80_usize), 1..40)) {
            let mut dispatchers = vec![BTreeSet::new()];
            settle(&mut dispatchers);
            for (joins, at) in changes {
                if joins || dispatchers.len() == 1 {
                    dispatchers.push(BTreeSet::new());
                } else {
                    let at = at % dispatchers.len();
                    dispatchers.remove(at);
                }
                settle(&mut dispatchers);
            }
        }
    }
}
