//! Which records this operator may replace by what it knows, and for which it has to read again.
//!
//! A record follows from its object, and from what changes without the object's generation: the Producer, Secrets, a
//! Service, the labels of a namespace. What an operator knows of these only gets newer, so it may replace the record that
//! it has written itself. Another operator, before or after this one, may have made its record from something newer. So
//! before this operator replaces that one, what the new record follows from must have been read later than that one was
//! written.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::shared::Shared;

/// For how long no mark may be left of a removed record that was made from something newer: half of the time for which marks
/// stay.
const UNMARKED: Duration = Duration::from_secs(1800);
/// The most versions that are remembered. They are few, or read again.
const MOST: usize = 10_000;

/// What this operator has written and read.
#[derive(Default)]
pub(crate) struct Fences(Shared<State>);

#[derive(Default)]
struct State {
    /// A revision that the config bucket had reached, and when it had.
    start: Option<(u64, Instant)>,
    /// The record that was last written for each object, by the object's uid: its key and its revision.
    written: HashMap<String, (String, u64)>,
    /// The version that something had, and when it was last read so.
    versions: HashMap<String, (String, Instant)>,
}

impl Fences {
    /// Notes that the config bucket has reached this revision.
    pub(crate) fn begin(&self, revision: u64) {
        self.0.lock().start.get_or_insert_with(|| (revision, Instant::now()));
    }

    /// Notes that this operator has written the record of an object.
    pub(crate) fn wrote(&self, uid: &str, key: &str, revision: u64) {
        self.0.lock().written.insert(uid.to_owned(), (key.to_owned(), revision));
    }

    /// Drops what is known of an object that is deleted.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().written.remove(uid);
    }

    /// Returns since when that must have been read from which a record is made that replaces the one at this revision; none
    /// if that doesn't matter. The revision is 0 if there is neither a record nor a mark of one.
    pub(crate) fn since(&self, uid: &str, key: &str, revision: u64) -> Option<Instant> {
        let (state, now) = (self.0.lock(), Instant::now());
        if revision == 0 {
            // None if the machine has not run for that long, so that everything was read later.
            return now.checked_sub(UNMARKED);
        }
        if state.written.get(uid).is_some_and(|(written, at)| written == key && *at == revision) {
            return None;
        }
        Some(state.start.filter(|(reached, _)| revision <= *reached).map_or(now, |(_, when)| when))
    }

    /// Notes the version that something had at a read that began then.
    pub(crate) fn read(&self, what: &str, version: &str, began: Instant) {
        let versions = &mut self.0.lock().versions;
        if versions.len() >= MOST {
            versions.clear();
        }
        versions.insert(what.to_owned(), (version.to_owned(), began));
    }

    /// Returns whether something had this version at a read that began then or later.
    pub(crate) fn is_read(&self, what: &str, version: &str, since: Instant) -> bool {
        let state = self.0.lock();
        state.versions.get(what).is_some_and(|(known, began)| known == version && *began >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_another_operator_has_written_is_replaced_by_what_was_read_later_alone() {
        let fences = Fences::default();
        let since = |key, revision| fences.since("s-1", key, revision);
        assert_eq!(since("a", 7), Some(Instant::now()), "nothing is known yet");
        fences.begin(10);
        let start = Instant::now();
        tokio::time::advance(SECOND).await;
        fences.begin(20);
        assert_eq!(since("a", 10), Some(start), "it was written before");
        assert_eq!(since("a", 11), Some(Instant::now()), "it may be as new as can be");
        fences.wrote("s-1", "a", 12);
        assert_eq!((since("a", 12), since("b", 12)), (None, Some(Instant::now())));
        assert_eq!(since("a", 13), Some(Instant::now()), "and replaced");
        assert_eq!(since("a", 10), Some(start));
        fences.forget("s-1");
        assert_eq!(since("a", 12), Some(Instant::now()));
        tokio::time::advance(2 * UNMARKED).await;
        assert_eq!(since("a", 0), Some(Instant::now() - UNMARKED), "its mark may have gone since then");
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_counts_as_read_when_the_read_began() {
        let (fences, began) = (Fences::default(), Instant::now());
        tokio::time::advance(SECOND).await;
        fences.read("producers/shop/orders", "2", began);
        for (what, version, since, want) in [
            ("producers/shop/orders", "2", began, true),
            ("producers/shop/orders", "2", Instant::now(), false),
            ("producers/shop/orders", "1", began, false),
            ("producers/shop/other", "2", began, false),
        ] {
            assert_eq!(fences.is_read(what, version, since), want, "{what} {version}");
        }
        (0..=MOST).for_each(|n| fences.read(&n.to_string(), "1", began));
        assert!(!fences.is_read("producers/shop/orders", "2", began), "not everything is kept");
    }
}
