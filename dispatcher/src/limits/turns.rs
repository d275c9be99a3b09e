//! A queue in which namespaces take turns, and within a namespace its Subscriptions. So however much waits for a
//! namespace, another one waits for one turn of it at most.
//!
//! The deliveries of a namespace wait in rounds, each of which has one of each Subscription at most. To enter and to
//! leave costs the same however many wait.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Something that waits for a Subscription.
pub(crate) trait InTurn {
    /// The number of the namespace, and the last turn of the Subscription.
    fn turn(&self) -> (usize, &Turn);
}

/// A queue in which namespaces take turns.
pub(crate) struct Turns<T> {
    namespaces: HashMap<usize, Rounds<T>>,
    /// The namespaces for which something waits, beginning with the one whose turn is next.
    order: VecDeque<usize>,
    /// The first round of a namespace for which nothing has waited lately. No earlier round has a higher number.
    first: usize,
}

/// The round in which a Subscription had, or will have, its last turn; 0 before the first. It has a meaning for its queue
/// alone.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicUsize);

/// What waits for one namespace.
struct Rounds<T> {
    /// The number of the first round.
    now: usize,
    /// The first one is never empty. Others are if what was in them has left.
    rounds: VecDeque<VecDeque<T>>,
    /// Rounds that are over, kept for their memory.
    spare: Vec<VecDeque<T>>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { namespaces: HashMap::new(), order: VecDeque::new(), first: 1 }
    }
}

impl<T: InTurn> Turns<T> {
    pub(crate) fn push(&mut self, item: T) {
        let (namespace, _) = item.turn();
        let new = || Rounds { now: self.first, rounds: VecDeque::new(), spare: Vec::new() };
        let rounds = self.namespaces.entry(namespace).or_insert_with(new);
        if rounds.rounds.is_empty() {
            self.order.push_back(namespace);
        }
        rounds.push(item);
    }

    /// Takes out what is next.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let namespace = self.order.pop_front()?;
        let rounds = self.namespaces.get_mut(&namespace)?;
        let item = rounds.pop();
        if !rounds.rounds.is_empty() {
            self.order.push_back(namespace);
        }
        item
    }

    /// Takes out everything that leaves, and gives back the memory of namespaces for which nothing waits.
    pub(crate) fn extract(&mut self, mut leaves: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut left = Vec::new();
        self.namespaces.retain(|_, rounds| {
            for round in &mut rounds.rounds {
                // Only few calls take anything out.
                while let Some(at) = round.iter().position(&mut leaves) {
                    left.extend(round.remove(at));
                }
            }
            rounds.pass_over_empty();
            if rounds.rounds.is_empty() {
                self.first = self.first.max(rounds.now);
            }
            !rounds.rounds.is_empty()
        });
        self.order.retain(|namespace| self.namespaces.contains_key(namespace));
        left
    }
}

impl<T: InTurn> Rounds<T> {
    fn push(&mut self, item: T) {
        let (_, last) = item.turn();
        // No turn lies beyond the rounds that there are.
        let at = (last.0.load(Ordering::Relaxed) + 1).saturating_sub(self.now).min(self.rounds.len());
        last.0.store(self.now + at, Ordering::Relaxed);
        if at == self.rounds.len() {
            self.rounds.push_back(self.spare.pop().unwrap_or_default());
        }
        self.rounds[at].push_back(item);
    }

    fn pop(&mut self) -> Option<T> {
        let item = self.rounds.front_mut()?.pop_front();
        self.pass_over_empty();
        item
    }

    fn pass_over_empty(&mut self) {
        while self.rounds.front().is_some_and(VecDeque::is_empty) {
            self.spare.extend(self.rounds.pop_front());
            self.now += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// The `n`th delivery of a Subscription of a namespace.
    struct Waits<'a> {
        namespace: usize,
        last: &'a Turn,
        of: usize,
        n: usize,
    }

    impl InTurn for Waits<'_> {
        fn turn(&self) -> (usize, &Turn) {
            (self.namespace, self.last)
        }
    }

    #[test]
    fn namespaces_take_turns_and_so_do_their_subscriptions() {
        let mut turns = Turns::default();
        let lasts: [Turn; 3] = Default::default();
        let (greedy, beside, another) = (0, 1, 2);
        let one = |of: usize, n| Waits { namespace: of / 2, last: &lasts[of], of, n };
        (0..100).for_each(|n| turns.push(one(greedy, n)));
        assert_eq!(turns.pop().map(|first| first.n), Some(0));
        for n in 0..3 {
            turns.push(one(beside, n));
            turns.push(one(another, n));
        }
        let order: Vec<_> = (0..9).filter_map(|_| turns.pop()).map(|next| (next.of, next.n)).collect();
        let wanted = [
            (greedy, 1),
            (another, 0),
            (beside, 0),
            (another, 1),
            (greedy, 2),
            (another, 2),
            (beside, 1),
            (greedy, 3),
            (beside, 2),
        ];
        assert_eq!(order, wanted);
        let left = turns.extract(|waits| waits.n % 2 == 0);
        assert_eq!(left.len(), 48);
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop()).map(|waits| waits.n).collect();
        assert!(rest.len() == 48 && rest.is_sorted());
        turns.extract(|_| true);
        assert!(turns.namespaces.is_empty());
    }

    #[test]
    fn a_subscription_that_had_many_turns_waits_no_longer_once_its_namespace_is_forgotten() {
        let (mut turns, often, beside) = (Turns::default(), Turn::default(), Turn::default());
        let one = |last, of, n| Waits { namespace: 0, last, of, n };
        for n in 0..100 {
            turns.push(one(&often, 0, n));
            turns.pop();
        }
        turns.extract(|_| true);
        (0..5).for_each(|n| turns.push(one(&beside, 1, n)));
        turns.push(one(&often, 0, 100));
        let order: Vec<_> = std::iter::from_fn(|| turns.pop()).map(|next| next.of).collect();
        assert_eq!(order, [1, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn in_any_order_a_turn_comes_after_one_of_each_other_namespace_and_in_order() {
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let (namespaces, subscriptions) = (random.random_range(1..8), random.random_range(1..6));
            let lasts: Vec<Turn> = (0..namespaces * subscriptions).map(|_| Turn::default()).collect();
            let (mut turns, mut waiting) = (Turns::default(), vec![VecDeque::new(); lasts.len()]);
            // How many turns others had since a namespace's last one, while something waited for it.
            let mut passed = vec![0; namespaces];
            for n in 0..5_000 {
                if random.random_range(0..20) == 0 {
                    let gone = random.random_range(0..lasts.len());
                    turns.extract(|waits: &Waits<'_>| waits.of == gone && waits.n.is_multiple_of(3));
                    waiting[gone].retain(|n: &usize| !n.is_multiple_of(3));
                    let namespace = gone / subscriptions;
                    if waiting[namespace * subscriptions..][..subscriptions].iter().all(VecDeque::is_empty) {
                        passed[namespace] = 0;
                    }
                } else if random.random_bool(0.55) {
                    let one = random.random_range(0..lasts.len());
                    turns.push(Waits { namespace: one / subscriptions, last: &lasts[one], of: one, n });
                    waiting[one].push_back(n);
                } else {
                    let Some(Waits { of: one, n, .. }) = turns.pop() else {
                        assert!(waiting.iter().all(VecDeque::is_empty));
                        continue;
                    };
                    assert_eq!(waiting[one].pop_front(), Some(n), "a Subscription's own are in order");
                    for (namespace, passed) in passed.iter_mut().enumerate() {
                        let waits = waiting[namespace * subscriptions..][..subscriptions].iter().any(|w| !w.is_empty());
                        *passed = if waits && namespace != one / subscriptions { *passed + 1 } else { 0 };
                        assert!(*passed < namespaces, "seed {seed}: {namespace} waits for {passed} turns");
                    }
                }
            }
        }
    }
}
