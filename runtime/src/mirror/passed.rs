//! What a mirror has passed, and so does not go back to.

use std::collections::{HashMap, HashSet};

use async_nats::jetstream::Message;
use jiff::Timestamp;

/// A place in the stream of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) revision: u64,
    pub(super) stored: Timestamp,
}

impl At {
    pub(super) fn of(message: &Message) -> Result<Self, async_nats::Error> {
        let info = message.info()?;
        // A time that jiff can't hold lies beyond the year 9999.
        let stored = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos()).unwrap_or_default();
        Ok(Self { revision: info.stream_sequence, stored })
    }
}

/// The records that a mirror has reported.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// The keys that have a value, each with its revision.
    pub(super) known: HashMap<String, u64>,
    /// When the bucket was created.
    created: Option<Timestamp>,
    /// How far everything has been reported.
    at: Option<At>,
    /// The keys whose last message was the value of an older record. If the snapshot ends so, the leader may have lost what
    /// the mirror knows.
    pub(super) doubtful: HashSet<String>,
}

impl Passed {
    /// Enters a bucket that was created at this time and has given out revisions up to `end`. Returns whether it has taken
    /// the place of another one, or is an older copy of what it was, so that nothing of it was passed.
    pub(super) fn enter(&mut self, created: Timestamp, end: u64) -> bool {
        let another = self.created.replace(created).is_some_and(|former| former != created);
        let replaced = another || self.at.is_some_and(|passed| end < passed.revision);
        self.doubtful.clear();
        if replaced {
            self.at = None;
        }
        replaced
    }

    pub(super) fn pass(&mut self, at: At) {
        if self.at.is_none_or(|passed| passed.revision < at.revision || passed.stored < at.stored) {
            self.at = Some(at);
        }
    }

    /// Takes a message under this key. Returns whether it is to be ignored.
    pub(super) fn ignores(&mut self, key: &str, at: At, is_removal: bool) -> bool {
        let is_stale = self.is_stale(key, at);
        if is_stale && !is_removal {
            self.doubtful.insert(key.to_owned());
        } else {
            self.doubtful.remove(key);
        }
        is_stale
    }

    /// Whether the message under this key is older than what was passed, and not what the mirror knows of the key. The
    /// time is compared, too: a bucket that has lost its end in a crash gives revisions out again.
    fn is_stale(&self, key: &str, at: At) -> bool {
        let passed = self.at.is_some_and(|passed| at.revision <= passed.revision && at.stored <= passed.stored);
        passed && self.known.get(key) != Some(&at.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: u64, second: i64) -> At {
        At { revision, stored: Timestamp::from_second(second).unwrap() }
    }

    #[test]
    fn what_was_passed_is_stale_unless_it_is_known() {
        let mut passed = Passed::default();
        assert!(!passed.enter(Timestamp::UNIX_EPOCH, 9));
        assert!(!passed.is_stale("a", at(5, 5)), "nothing was passed");
        passed.known.insert("a".into(), 5);
        passed.pass(at(9, 9));
        for (key, at, stale, why) in [
            ("a", at(5, 5), false, "it is known"),
            ("a", at(4, 4), true, "a newer one is known"),
            ("b", at(7, 7), true, "it was removed"),
            ("b", at(10, 10), false, "it is new"),
            ("b", at(7, 12), false, "the revision was given out again"),
        ] {
            assert_eq!(passed.is_stale(key, at), stale, "{why}");
        }
        assert!(!passed.enter(Timestamp::UNIX_EPOCH, 9));
        assert!(passed.is_stale("b", at(7, 7)));
        assert!(passed.enter(Timestamp::MAX, 9));
        assert!(!passed.is_stale("b", at(7, 7)), "the bucket is another one");
        passed.pass(at(9, 9));
        assert!(passed.enter(Timestamp::MAX, 8));
        assert!(!passed.is_stale("b", at(7, 7)), "the bucket is an older copy");
    }

    #[test]
    fn what_ends_with_an_older_record_is_doubtful() {
        let mut passed = Passed::default();
        passed.enter(Timestamp::UNIX_EPOCH, 20);
        passed.known.insert("a".into(), 18);
        passed.pass(at(20, 20));
        let (value, removal) = (false, true);
        for (messages, doubtful, why) in [
            (&[(10, value)][..], true, "the leader may have lost 18"),
            (&[(10, value), (18, value)], false, "the replica was behind"),
            (&[(18, value)], false, "it is known"),
            (&[(10, value), (19, removal)], false, "the replica was behind"),
        ] {
            passed.enter(Timestamp::UNIX_EPOCH, 20);
            for (revision, is_removal) in messages {
                passed.ignores("a", at(*revision, 1), *is_removal);
            }
            assert_eq!(passed.doubtful.contains("a"), doubtful, "{why}");
        }
    }
}
