//! The order in which health is written into status: turns of health first, then the writes that are due, the longest
//! waiting first.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use hookwright_core::nats::ids::SubscriptionUid;
use tokio::time::Instant;

/// How long a write that failed waits until it is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// How much a change matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// Only counts have changed.
    Counts,
    /// Deliveries wait, or no longer do; a delivery was given up; or the first attempt was made.
    Notable,
    /// Health turned.
    Turn,
}

impl Weight {
    /// Returns the shortest time between the last write of a Subscription and one of this weight.
    const fn pause(self) -> Duration {
        match self {
            Self::Turn => Duration::from_secs(1),
            Self::Notable => Duration::from_secs(2),
            Self::Counts => Duration::from_secs(10),
        }
    }
}

/// The Subscriptions to look at, and those to write.
#[derive(Default)]
pub(crate) struct Agenda {
    /// The Subscriptions that have changed. How much the change matters is not known yet.
    changed: HashSet<SubscriptionUid>,
    /// The times at which a Subscription's status changes even if nothing happens.
    later: HashMap<SubscriptionUid, Instant>,
    /// The writes of turned health, which come before all others.
    turns: BTreeSet<(Instant, SubscriptionUid)>,
    due: BTreeSet<(Instant, SubscriptionUid)>,
    scheduled: HashMap<SubscriptionUid, (Weight, Instant)>,
    written: HashMap<SubscriptionUid, Instant>,
}

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Write(SubscriptionUid),
    WaitUntil(Instant),
    Wait,
}

impl Agenda {
    pub(crate) fn changed(&mut self, uid: SubscriptionUid) {
        self.changed.insert(uid);
    }

    /// Notes the time at which the Subscription counts as changed.
    pub(crate) fn look_at(&mut self, uid: SubscriptionUid, time: Option<Instant>) {
        match time {
            Some(time) => drop(self.later.insert(uid, time)),
            None => drop(self.later.remove(&uid)),
        }
    }

    pub(crate) fn take_changed(&mut self, now: Instant) -> Vec<SubscriptionUid> {
        self.changed.extend(self.later.extract_if(|_, time| *time <= now).map(|(uid, _)| uid));
        self.changed.drain().collect()
    }

    /// Schedules a write for the time at which the last write is old enough for this weight.
    pub(crate) fn schedule(&mut self, uid: SubscriptionUid, weight: Weight, now: Instant) {
        let time = self.written.get(&uid).map_or(now, |last| (*last + weight.pause()).max(now));
        match self.scheduled.get(&uid) {
            Some((old, at)) if *old >= weight && *at <= time => {}
            Some((old, at)) => {
                let (weight, time) = (weight.max(*old), time.min(*at));
                self.unschedule(&uid);
                self.put(uid, weight, time);
            }
            None => self.put(uid, weight, time),
        }
    }

    /// Schedules a write that failed once more.
    pub(crate) fn failed(&mut self, uid: SubscriptionUid, weight: Weight, now: Instant) {
        if !self.scheduled.contains_key(&uid) {
            self.put(uid, weight, now + AGAIN);
        }
    }

    fn queue(&mut self, weight: Weight) -> &mut BTreeSet<(Instant, SubscriptionUid)> {
        if weight == Weight::Turn { &mut self.turns } else { &mut self.due }
    }

    fn put(&mut self, uid: SubscriptionUid, weight: Weight, time: Instant) {
        self.scheduled.insert(uid.clone(), (weight, time));
        self.queue(weight).insert((time, uid));
    }

    fn unschedule(&mut self, uid: &SubscriptionUid) {
        if let Some((weight, time)) = self.scheduled.remove(uid) {
            self.queue(weight).remove(&(time, uid.clone()));
        }
    }

    pub(crate) fn written(&mut self, uid: SubscriptionUid, now: Instant) {
        self.written.insert(uid, now);
    }

    pub(crate) fn forget(&mut self, uid: &SubscriptionUid) {
        self.changed.remove(uid);
        self.later.remove(uid);
        self.written.remove(uid);
        self.unschedule(uid);
    }

    /// Returns what to do now. A Subscription stays on the agenda until [`Agenda::take_next`] takes it.
    pub(crate) fn next(&self, now: Instant) -> Next {
        let firsts = [self.turns.first(), self.due.first()];
        if let Some((_, uid)) = firsts.iter().flatten().find(|(time, _)| *time <= now) {
            return Next::Write(uid.clone());
        }
        let times = firsts.iter().flatten().map(|(time, _)| *time).chain(self.later.values().copied());
        times.min().map_or(Next::Wait, Next::WaitUntil)
    }

    /// Takes the Subscription to write now off the agenda.
    pub(crate) fn take_next(&mut self, now: Instant) -> Option<SubscriptionUid> {
        let Next::Write(uid) = self.next(now) else { return None };
        self.unschedule(&uid);
        Some(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> SubscriptionUid {
        SubscriptionUid::parse(text).unwrap()
    }

    fn take(agenda: &mut Agenda, now: Instant) -> Next {
        let next = agenda.next(now);
        let taken = agenda.take_next(now);
        assert_eq!(taken.is_some(), matches!(next, Next::Write(_)));
        next
    }

    #[tokio::test(start_paused = true)]
    async fn turns_first_and_counts_at_most_every_ten_seconds() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(agenda.next(now), Next::Wait);
        agenda.schedule(uid("a"), Weight::Counts, now);
        agenda.schedule(uid("b"), Weight::Turn, now);
        agenda.schedule(uid("b"), Weight::Turn, now);
        assert_eq!(take(&mut agenda, now), Next::Write(uid("b")));
        assert_eq!(take(&mut agenda, now), Next::Write(uid("a")), "the first change after quiet is written at once");
        agenda.written(uid("a"), now);
        agenda.schedule(uid("a"), Weight::Counts, now);
        agenda.schedule(uid("a"), Weight::Counts, after(5));
        assert_eq!(agenda.next(after(5)), Next::WaitUntil(after(10)));
        agenda.schedule(uid("a"), Weight::Notable, after(5));
        assert_eq!(take(&mut agenda, after(5)), Next::Write(uid("a")), "something notable doesn't wait as long");
        agenda.written(uid("a"), after(5));
        agenda.schedule(uid("a"), Weight::Turn, after(5));
        agenda.schedule(uid("a"), Weight::Counts, after(5));
        assert_eq!(agenda.next(after(5)), Next::WaitUntil(after(6)), "nor do turns, but one can't take all writes");
        assert_eq!(take(&mut agenda, after(6)), Next::Write(uid("a")));
        assert_eq!(agenda.next(after(6)), Next::Wait);
        agenda.schedule(uid("c"), Weight::Notable, now);
        agenda.forget(&uid("c"));
        assert_eq!(agenda.next(now), Next::Wait);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_waiting_first_and_time_counts_as_a_change() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        agenda.schedule(uid("b"), Weight::Counts, now);
        agenda.schedule(uid("a"), Weight::Notable, after(1));
        assert_eq!(take(&mut agenda, after(2)), Next::Write(uid("b")));
        assert_eq!(take(&mut agenda, after(2)), Next::Write(uid("a")));
        agenda.look_at(uid("a"), Some(after(30)));
        assert_eq!(agenda.next(after(2)), Next::WaitUntil(after(30)));
        assert!(agenda.take_changed(after(29)).is_empty());
        assert_eq!(agenda.take_changed(after(30)), [uid("a")]);
        assert_eq!(agenda.next(after(30)), Next::Wait);
    }
}
