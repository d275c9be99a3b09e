//! How namespaces share something that is scarce, and how the Subscriptions of a namespace share what it may have.
//!
//! The rule is the same on both levels: **nobody may hold more than what is still free there** (dynamic thresholds,
//! Choudhury and Hahne 1998). A namespace may take more while it holds less than is free. A Subscription may take more
//! while it holds no more than its namespace may still take. So if n namespaces want everything, each gets one (n+1)th,
//! and as much stays free for the next one. As at each moment all hold about the same, they have held it for the same
//! time, too: a Subscription that needs it for long gets it less often. Nothing has to be remembered for that.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Something that namespaces share.
#[derive(Debug)]
pub(crate) struct Room {
    most: usize,
    held: AtomicUsize,
}

/// What a namespace holds of a room.
#[derive(Debug, Default)]
pub(crate) struct Part(AtomicUsize);

/// Whether a Subscription that holds `own` may take more while `free` is free and its namespace holds `namespace`.
pub(crate) fn may_take(free: usize, namespace: usize, own: usize) -> bool {
    namespace < free && own <= (free - namespace) / 2
}

impl Room {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: AtomicUsize::new(0) }
    }

    /// How much is held.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Whether a Subscription that holds `own` may take more. Two that ask at once may both be told so.
    pub(crate) fn has_place(&self, namespace: &Part, own: usize) -> bool {
        may_take(self.most.saturating_sub(self.held()), namespace.held(), own)
    }

    pub(crate) fn take(&self, namespace: &Part, amount: usize) {
        self.held.fetch_add(amount, Ordering::AcqRel);
        namespace.0.fetch_add(amount, Ordering::AcqRel);
    }

    pub(crate) fn give_back(&self, namespace: &Part, amount: usize) {
        self.held.fetch_sub(amount, Ordering::AcqRel);
        namespace.0.fetch_sub(amount, Ordering::AcqRel);
    }
}

impl Part {
    fn held(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const MOST: usize = 8192;

    /// A room, and what the Subscriptions of each namespace hold of it.
    struct Shared {
        room: Room,
        namespaces: Vec<(Part, Vec<usize>)>,
    }

    impl Shared {
        fn new(namespaces: &[usize]) -> Self {
            let part = |subscriptions: &usize| (Part::default(), vec![0; *subscriptions]);
            Self { room: Room::new(MOST), namespaces: namespaces.iter().map(part).collect() }
        }

        fn take(&mut self, namespace: usize, subscription: usize, amount: usize) -> bool {
            let (part, held) = &mut self.namespaces[namespace];
            let may = self.room.has_place(part, held[subscription]);
            if may {
                self.room.take(part, amount);
                held[subscription] += amount;
            }
            may
        }

        fn give_back(&mut self, namespace: usize, subscription: usize) {
            let (part, held) = &mut self.namespaces[namespace];
            if held[subscription] > 0 {
                self.room.give_back(part, 1);
                held[subscription] -= 1;
            }
        }

        /// Lets everybody take until nobody may.
        fn saturate(&mut self) {
            let all: Vec<(usize, usize)> = (0..self.namespaces.len())
                .flat_map(|namespace| (0..self.namespaces[namespace].1.len()).map(move |one| (namespace, one)))
                .collect();
            while all.iter().filter(|(namespace, one)| self.take(*namespace, *one, 1)).count() > 0 {}
        }
    }

    #[test]
    fn nobody_holds_more_than_is_free_for_the_next_one() {
        for greedy in [&[1][..], &[300], &[1, 300], &[10; 30], &[64, 1, 1], &[1; 200]] {
            let mut shared = Shared::new(greedy);
            shared.saturate();
            // What was taken in a hurry evens out as it is given back.
            for _ in 0..200 {
                for (namespace, subscriptions) in greedy.iter().enumerate() {
                    (0..*subscriptions).for_each(|one| shared.give_back(namespace, one));
                }
                shared.saturate();
            }
            let (fair, free) = (MOST / (greedy.len() + 1), MOST - shared.room.held());
            assert!(free + free / 8 >= fair, "{free} of {MOST} beside {greedy:?}");
            for (part, held) in &shared.namespaces {
                assert!(part.held() <= free + free / 8 + 2, "{} and {free} are free, {greedy:?}", part.held());
                let of_one = part.held() / held.len();
                assert!(held.iter().all(|held| held.abs_diff(of_one) <= 3.max(of_one / 4)), "{held:?}");
            }
            // The next namespace finds as much as any other has, and each of its Subscriptions finds its part.
            shared.namespaces.push((Part::default(), vec![0; 2]));
            let mut taken = [0, 0];
            for (one, taken) in taken.iter_mut().enumerate() {
                while shared.take(greedy.len(), one, 1) {
                    *taken += 1;
                }
            }
            assert!(taken[0] >= fair / 8 && taken[1] > 0, "{taken:?} of {fair}");
        }
    }

    #[test]
    fn in_any_order_nobody_is_kept_out_by_those_who_hold_more() {
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let namespaces: Vec<usize> = (0..random.random_range(1..20)).map(|_| random.random_range(1..50)).collect();
            let mut shared = Shared::new(&namespaces);
            // A namespace that wants little holds at most this much at a time.
            let little = MOST / (namespaces.len() + 2) / 4;
            let largest = 65;
            for step in 0..30_000 {
                let namespace = random.random_range(0..namespaces.len());
                let one = random.random_range(0..namespaces[namespace]);
                if random.random_range(0..3) == 0 {
                    shared.give_back(namespace, one);
                } else if namespace > 0 {
                    shared.take(namespace, one, random.random_range(1..=largest));
                } else {
                    let (part, held) = &shared.namespaces[0];
                    let fits = part.held() < little && held[one] <= little / 8;
                    assert!(!fits || shared.take(0, one, 1), "seed {seed}, step {step}: {namespaces:?}");
                }
                let held: usize = shared.namespaces.iter().map(|(part, _)| part.held()).sum();
                assert_eq!(shared.room.held(), held);
                assert!(held <= MOST + largest, "{held}");
            }
        }
    }

    #[test]
    fn a_room_for_one_is_used() {
        let (room, part) = (Room::new(1), Part::default());
        assert!(room.has_place(&part, 0));
        room.take(&part, 65);
        assert!(!room.has_place(&Part::default(), 0));
        room.give_back(&part, 65);
        assert!(room.has_place(&part, 0));
    }
}
