//! Which Subscription's status is written next: transitions first, then what is due, the longest waiting first.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use hookwright_core::ids::SubscriptionUid;
use tokio::time::Instant;

/// The shortest time between two writes of counts of one Subscription.
const QUIET: Duration = Duration::from_secs(10);
/// How soon a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// What is to be looked at, and what is to be written.
#[derive(Default)]
pub(super) struct Agenda {
    /// Something has changed; whether it is a transition is not known yet.
    changed: HashSet<SubscriptionUid>,
    urgent: VecDeque<SubscriptionUid>,
    due: BTreeSet<(Instant, SubscriptionUid)>,
    scheduled: HashMap<SubscriptionUid, Slot>,
    written: HashMap<SubscriptionUid, Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Urgent,
    At(Instant),
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Write(SubscriptionUid),
    WaitUntil(Instant),
    Wait,
}

impl Agenda {
    pub(super) fn changed(&mut self, uid: SubscriptionUid) {
        self.changed.insert(uid);
    }

    pub(super) fn take_changed(&mut self) -> Vec<SubscriptionUid> {
        self.changed.drain().collect()
    }

    /// To be written at once.
    pub(super) fn urgent(&mut self, uid: SubscriptionUid) {
        match self.scheduled.insert(uid.clone(), Slot::Urgent) {
            Some(Slot::Urgent) => return,
            Some(Slot::At(time)) => drop(self.due.remove(&(time, uid.clone()))),
            None => {}
        }
        self.urgent.push_back(uid);
    }

    /// To be written when the last write is old enough.
    pub(super) fn counted(&mut self, uid: SubscriptionUid, now: Instant) {
        if !self.scheduled.contains_key(&uid) {
            let time = self.written.get(&uid).map_or(now, |last| (*last + QUIET).max(now));
            self.at(uid, time);
        }
    }

    /// To be written again, as it failed.
    pub(super) fn failed(&mut self, uid: SubscriptionUid, now: Instant) {
        if !self.scheduled.contains_key(&uid) {
            self.at(uid, now + AGAIN);
        }
    }

    fn at(&mut self, uid: SubscriptionUid, time: Instant) {
        self.scheduled.insert(uid.clone(), Slot::At(time));
        self.due.insert((time, uid));
    }

    pub(super) fn written(&mut self, uid: SubscriptionUid, now: Instant) {
        self.written.insert(uid, now);
    }

    pub(super) fn forget(&mut self, uid: &SubscriptionUid) {
        self.changed.remove(uid);
        self.written.remove(uid);
        match self.scheduled.remove(uid) {
            Some(Slot::Urgent) => self.urgent.retain(|other| other != uid),
            Some(Slot::At(time)) => drop(self.due.remove(&(time, uid.clone()))),
            None => {}
        }
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        if let Some(uid) = self.urgent.pop_front() {
            self.scheduled.remove(&uid);
            return Next::Write(uid);
        }
        match self.due.first() {
            None => Next::Wait,
            Some((time, _)) if *time > now => Next::WaitUntil(*time),
            Some(_) => match self.due.pop_first() {
                Some((_, uid)) => {
                    self.scheduled.remove(&uid);
                    Next::Write(uid)
                }
                None => Next::Wait,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn transitions_first_and_counts_at_most_every_ten_seconds() {
        let uid = |text: &str| SubscriptionUid::parse(text).unwrap();
        let mut agenda = Agenda::default();
        let now = Instant::now();
        assert_eq!(agenda.next(now), Next::Wait);
        agenda.counted(uid("a"), now);
        agenda.urgent(uid("b"));
        agenda.urgent(uid("b"));
        assert_eq!(agenda.next(now), Next::Write(uid("b")));
        assert_eq!(agenda.next(now), Next::Write(uid("a")), "the first change after quiet is written at once");
        agenda.written(uid("a"), now);
        agenda.counted(uid("a"), now);
        agenda.counted(uid("a"), now + Duration::from_secs(5));
        assert_eq!(agenda.next(now), Next::WaitUntil(now + QUIET));
        assert_eq!(agenda.next(now + QUIET), Next::Write(uid("a")));
        agenda.written(uid("a"), now + QUIET);
        agenda.counted(uid("a"), now + QUIET);
        agenda.urgent(uid("a"));
        assert_eq!(agenda.next(now + QUIET), Next::Write(uid("a")), "a transition doesn't wait");
        assert_eq!(agenda.next(now + QUIET), Next::Wait);
        agenda.counted(uid("c"), now);
        agenda.forget(&uid("c"));
        assert_eq!(agenda.next(now), Next::Wait);
    }
}
