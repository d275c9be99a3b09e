//! Whose turn it is to catch up: so many Subscriptions at a time, by namespace first, then the one that has waited longest.
//!
//! A turn may end before its holder has caught up, so that a few Subscriptions for which much waits don't keep the others
//! out. The holder asks before each read, and waits for its next turn then.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::nats::ids::SubscriptionUid;

/// How long a turn lasts at least while others wait whose namespaces have as many.
const TURN: SignedDuration = SignedDuration::from_secs(10);
/// How often it is seen whether a turn has to end.
const LOOK: SignedDuration = SignedDuration::from_millis(100);

/// The Subscriptions that have a turn, and those that wait for one.
#[derive(Debug)]
pub struct Turns {
    most: usize,
    namespaces: BTreeMap<String, Namespace>,
    /// How many have a turn.
    taken: usize,
    /// When it was seen last whether a turn has to end.
    looked: Timestamp,
}

#[derive(Debug, Default)]
struct Namespace {
    /// Since when they have their turns.
    has: BTreeMap<SubscriptionUid, Timestamp>,
    /// Since when they wait.
    waits: BTreeMap<SubscriptionUid, Timestamp>,
    /// The same, the one that has waited longest first.
    queue: BTreeSet<(Timestamp, SubscriptionUid)>,
}

impl Namespace {
    fn wait(&mut self, uid: SubscriptionUid, since: Timestamp) {
        self.queue.insert((since, uid.clone()));
        self.waits.insert(uid, since);
    }

    /// The oldest turn.
    fn oldest(&self) -> Option<(Timestamp, &SubscriptionUid)> {
        self.has.iter().map(|(uid, since)| (*since, uid)).min()
    }
}

impl Turns {
    /// Turns for so many Subscriptions at a time.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { most, namespaces: BTreeMap::new(), taken: 0, looked: Timestamp::MIN }
    }

    /// Whether the Subscription has a turn. If it has none, it waits for one, if it is new since `since`.
    pub fn ask(&mut self, namespace: &str, uid: &SubscriptionUid, since: Timestamp, now: Timestamp) -> bool {
        let of = self.namespaces.entry(namespace.to_owned()).or_default();
        if !of.has.contains_key(uid) && !of.waits.contains_key(uid) {
            of.wait(uid.clone(), since);
        }
        while self.taken < self.most && self.start_next(now) {}
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            while self.end_one(now) && self.start_next(now) {}
        }
        self.namespaces.get(namespace).is_some_and(|of| of.has.contains_key(uid))
    }

    /// The Subscription neither has a turn nor waits for one any more.
    pub fn leave(&mut self, namespace: &str, uid: &SubscriptionUid) {
        let Some(of) = self.namespaces.get_mut(namespace) else { return };
        self.taken -= usize::from(of.has.remove(uid).is_some());
        if let Some(since) = of.waits.remove(uid) {
            of.queue.remove(&(since, uid.clone()));
        }
        if of.has.is_empty() && of.waits.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// Gives the next one its turn.
    fn start_next(&mut self, now: Timestamp) -> bool {
        let next = self.next().and_then(|name| self.namespaces.get_mut(&name));
        let Some((of, (_, uid))) = next.and_then(|of| of.queue.pop_first().map(|first| (of, first))) else {
            return false;
        };
        of.waits.remove(&uid);
        of.has.insert(uid, now);
        self.taken += 1;
        true
    }

    /// The namespace that gets the next turn: of those in which somebody waits, the one that has the fewest; of several,
    /// the one in which somebody has waited longest.
    fn next(&self) -> Option<String> {
        let waiting = self.namespaces.iter().filter_map(|(name, of)| Some((of.has.len(), of.queue.first()?, name)));
        waiting.min().map(|(.., name)| name.clone())
    }

    /// Ends one turn so that the next Subscription gets it. It takes the oldest turn of the namespace with the most turns,
    /// if that namespace then still has more than the next one's. Otherwise it takes one that has lasted for a while, of
    /// the same namespace or one that has more.
    fn end_one(&mut self, now: Timestamp) -> bool {
        let Some(next) = self.next() else { return false };
        let has = self.namespaces.get(&next).map_or(0, |of| of.has.len());
        let others = self.namespaces.iter().filter(|(name, of)| **name == next || of.has.len() > has);
        let oldest = others.filter_map(|(name, of)| {
            let (since, uid) = of.oldest()?;
            let lasted = now.duration_since(since) >= TURN;
            (lasted || of.has.len() > has + 1).then_some((of.has.len(), Reverse(since), name, uid))
        });
        let Some((name, uid)) = oldest.max().map(|(.., name, uid)| (name.clone(), uid.clone())) else { return false };
        let Some(of) = self.namespaces.get_mut(&name) else { return false };
        of.has.remove(&uid);
        of.wait(uid, now);
        self.taken -= 1;
        true
    }
}

#[cfg(test)]
mod tests;
