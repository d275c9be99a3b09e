//! How long an object waits after its reconcile failed, and how often that is told. The wait doubles from 2 s to 60 s
//! for each object.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hookwright_crds::Reason;
use kube::Resource;
use tokio::time::Instant;

use crate::cache::references::full_name;
use crate::cache::shared::Shared;
use crate::refusal::Refusal;

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);

/// How many times in a row an object may have changed while it was worked on. Other writers are that quick now and
/// then; a webhook that answers so does it each time.
const CHANGES: u32 = 5;

/// When a failure that lasts is told again. Kubernetes keeps Events for an hour.
const AGAIN: Duration = Duration::from_secs(1200);

/// The same if its words are others each time, as they name a request or a port.
const REWORDED: Duration = Duration::from_secs(300);

/// The work that may fail: an object's, by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Work {
    kind: String,
    name: String,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Reconcile,
    Health,
}

impl Work {
    /// Returns the reconcile of the object, or its cleanup.
    pub(crate) fn reconcile<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        let meta = object.meta();
        Self::of(&K::kind(&()), meta.namespace.as_deref(), meta.name.as_deref())
    }

    /// Returns the write of what dispatchers have counted.
    pub(crate) fn health<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        Self { part: Part::Health, ..Self::reconcile(object) }
    }

    /// Returns the reconcile of the object with this name.
    pub(crate) fn of(kind: &str, namespace: Option<&str>, name: Option<&str>) -> Self {
        Self { kind: kind.to_owned(), name: full_name(namespace, name), part: Part::Reconcile }
    }
}

#[derive(Default)]
struct Row {
    /// How often it has failed in a row.
    failures: u32,
    /// How often in a row the object had changed meanwhile.
    changes: u32,
    /// What was told, once for each action and reason. The last one is what failed last.
    told: Vec<Told>,
}

struct Told {
    /// The uid of the object.
    uid: String,
    /// What the operator was about to do.
    action: &'static str,
    failure: Refusal,
    at: Instant,
}

/// What has failed since it last succeeded.
#[derive(Default)]
pub(crate) struct Failures(Shared<HashMap<Work, Row>>);

impl Failures {
    /// Counts a failure, and returns how long to wait.
    pub(crate) fn failed(&self, work: &Work) -> Duration {
        let mut rows = self.0.lock();
        let row = rows.entry(work.clone()).or_default();
        row.failures = row.failures.saturating_add(1);
        wait(row.failures)
    }

    /// Counts that the object has changed meanwhile. Returns whether that is as usual, and no failure.
    pub(crate) fn is_usual_change(&self, work: &Work) -> bool {
        let mut rows = self.0.lock();
        let row = rows.entry(work.clone()).or_default();
        row.changes = row.changes.saturating_add(1);
        row.changes <= CHANGES
    }

    /// Returns how often the work has failed in a row.
    pub(crate) fn in_a_row(&self, work: &Work) -> u32 {
        self.0.lock().get(work).map_or(0, |row| row.failures.saturating_add(row.changes))
    }

    /// Notes that a failure is told. Returns false if that was done lately.
    pub(crate) fn is_news(&self, work: &Work, uid: &str, action: &'static str, failure: &Refusal) -> bool {
        let (mut rows, now) = (self.0.lock(), Instant::now());
        let told = &mut rows.entry(work.clone()).or_default().told;
        // Another object may have had the name.
        told.retain(|one| one.uid == uid);
        let before = told.iter().position(|one| one.action == action && one.failure.reason == failure.reason);
        let lately = before.map(|at| told.remove(at)).filter(|one| {
            let again = if one.failure.message == failure.message { AGAIN } else { REWORDED };
            one.at + again > now
        });
        let is_news = lately.is_none();
        let new = || Told { uid: uid.to_owned(), action, failure: failure.clone(), at: now };
        told.push(lately.unwrap_or_else(new));
        is_news
    }

    pub(crate) fn succeeded(&self, work: &Work) {
        self.0.lock().remove(work);
    }

    /// Forgets an object that has gone.
    pub(crate) fn gone(&self, work: &Work) {
        let mut rows = self.0.lock();
        rows.remove(work);
        rows.remove(&Work { part: Part::Health, ..work.clone() });
    }

    /// Returns on how many objects work fails that was told, by kind and reason.
    pub(crate) fn counts(&self) -> BTreeMap<(String, Reason), usize> {
        let mut counts = BTreeMap::new();
        for (work, row) in &*self.0.lock() {
            if let Some(told) = row.told.last() {
                *counts.entry((work.kind.clone(), told.failure.reason)).or_insert(0) += 1;
            }
        }
        counts
    }
}

fn wait(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST)
}

/// Returns a time between half of `time` and all of it, so that objects that were made together aren't looked at
/// together.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(name: &str) -> Work {
        Work::of("Producer", Some("shop"), Some(name))
    }

    #[test]
    fn doubles_to_a_minute() {
        let waits: Vec<u64> = [1, 2, 3, 5, 6, u32::MAX].map(|n| wait(n).as_secs()).to_vec();
        assert_eq!(waits, [2, 4, 8, 32, 60, 60]);
        let failures = Failures::default();
        failures.failed(&work("a"));
        assert_eq!((failures.failed(&work("a")).as_secs(), failures.in_a_row(&work("a"))), (4, 2));
        failures.succeeded(&work("a"));
        assert_eq!((failures.failed(&work("a")).as_secs(), failures.in_a_row(&work("b"))), (2, 0));
    }

    #[test]
    fn only_changes_without_end_are_a_failure() {
        let failures = Failures::default();
        let usual: Vec<bool> = (0..6).map(|_| failures.is_usual_change(&work("a"))).collect();
        assert_eq!(usual, [true, true, true, true, true, false]);
        assert_eq!(failures.in_a_row(&work("a")), 6);
        failures.succeeded(&work("a"));
        assert!(failures.is_usual_change(&work("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_lasts_is_told_seldom_and_counted() {
        let failures = Failures::default();
        let health = Work { part: Part::Health, ..work("a") };
        let is_news =
            |work: &Work, uid: &str| failures.is_news(work, uid, "Reconcile", &Refusal::new(Reason::ApiRefused, "no"));
        assert!(is_news(&work("a"), "1"));
        assert!(!is_news(&work("a"), "1"));
        assert!(is_news(&work("a"), "2"), "another object of the name");
        assert!(is_news(&health, "2"));
        tokio::time::advance(AGAIN - Duration::from_secs(1)).await;
        assert!(!is_news(&work("a"), "2"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(is_news(&work("a"), "2"));
        failures.failed(&work("b"));
        assert_eq!(failures.counts(), [(("Producer".to_owned(), Reason::ApiRefused), 2)].into());
        failures.gone(&work("a"));
        assert!(failures.counts().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn other_words_for_the_same_are_told_seldom_too() {
        let (failures, work) = (Failures::default(), work("a"));
        let is_news = |action, reason, said: &str| failures.is_news(&work, "1", action, &Refusal::new(reason, said));
        let mut told = 0;
        for request in 0..3600 {
            told += u32::from(is_news("Reconcile", Reason::ApiRefused, &format!("no, request {request}")));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, 12);
        assert!(is_news("LetGo", Reason::ApiRefused, "another action"));
        assert!(is_news("LetGo", Reason::NatsUnavailable, "another reason"));
        assert_eq!(failures.counts(), [(("Producer".to_owned(), Reason::NatsUnavailable), 1)].into());
        assert!(!is_news("LetGo", Reason::ApiRefused, "one after the other"));
        assert_eq!(failures.counts(), [(("Producer".to_owned(), Reason::ApiRefused), 1)].into());
    }
}
