//! How far the replica that feeds a mirror is behind the leader.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::bucket::Bucket;
use crate::mirror::passed::At;

/// How often the leader is asked how far it is.
const LOOK: Duration = Duration::from_secs(2);
/// A mirror that lacks a record which its leader had this long ago, and still has, is behind.
const TOLERATED: Duration = Duration::from_secs(10);

/// Asks the leader every [`LOOK`] for the revision of its last record, given how far the mirror has come. A look that
/// fails is left out: without the leader, nobody knows how far it is. `None`: the bucket is another one.
pub(super) fn looks(
    bucket: &Bucket,
    keys: &'static str,
    created: Timestamp,
    reached: Arc<AtomicU64>,
) -> impl Stream<Item = Option<u64>> {
    unfold((bucket.clone(), reached), move |(bucket, reached)| async move {
        loop {
            sleep(LOOK).await;
            if let Ok(last) = bucket.last_after(keys, created, reached.load(Ordering::Relaxed)).await {
                return Some((last, (bucket, reached)));
            }
        }
    })
}

/// How far the consumer of a mirror has come, and how far the leader was when.
#[derive(Debug)]
pub(super) struct Lag {
    reached: Option<At>,
    /// Set until the consumer has caught up once. A long snapshot is no lag while it makes progress.
    progressed: Option<Instant>,
    /// When the leader was first seen to have a record that the consumer has not come to, in the order of revisions.
    wanted: VecDeque<(Instant, u64)>,
}

impl Lag {
    pub(super) fn new(last: u64, now: Instant) -> Self {
        let mut lag = Self { reached: None, progressed: Some(now), wanted: VecDeque::new() };
        lag.leader_has(last, now);
        lag
    }

    pub(super) fn reached(&self) -> Option<At> {
        self.reached
    }

    /// Notes that the leader's last record now has this revision. What it had beyond that is there no more.
    pub(super) fn leader_has(&mut self, last: u64, now: Instant) {
        let mut since = now;
        while let Some((seen, _)) = self.wanted.back().filter(|(_, wanted)| *wanted >= last) {
            since = *seen;
            self.wanted.pop_back();
        }
        if last > self.reached.map_or(0, |at| at.revision) {
            self.wanted.push_back((since, last));
        }
    }

    pub(super) fn reaches(&mut self, at: At, now: Instant) {
        self.reached = Some(at);
        self.progressed = self.progressed.map(|_| now);
        self.wanted.retain(|(_, wanted)| *wanted > at.revision);
    }

    /// Whether the consumer has come to everything that the leader was seen to have.
    pub(super) fn has_caught_up(&mut self) -> bool {
        let caught_up = self.wanted.is_empty();
        if caught_up {
            self.progressed = None;
        }
        caught_up
    }

    /// Whether the consumer lacks what the leader has had for too long.
    pub(super) fn is_behind(&self, now: Instant) -> bool {
        let since = |(seen, _): &(Instant, u64)| self.progressed.map_or(*seen, |progressed| progressed.max(*seen));
        self.wanted.front().is_some_and(|wanted| now.saturating_duration_since(since(wanted)) >= TOLERATED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: u64) -> At {
        At { revision, stored: Timestamp::UNIX_EPOCH }
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_ends_at_the_leaders_last_record() {
        let (start, later) = (Instant::now(), Instant::now() + TOLERATED);
        assert!(Lag::new(0, start).has_caught_up(), "an empty bucket");
        let mut lag = Lag::new(520, start);
        lag.reaches(at(500), start);
        assert!(!lag.has_caught_up());
        assert!(!lag.is_behind(later - Duration::from_millis(1)) && lag.is_behind(later));
        lag.reaches(at(510), later);
        assert!(!lag.is_behind(later), "it makes progress");
        lag.leader_has(505, later);
        assert!(lag.has_caught_up(), "what the leader had beyond that has expired");
    }

    #[tokio::test(start_paused = true)]
    async fn a_mirror_that_lacks_a_record_for_long_is_behind() {
        let start = Instant::now();
        let mut lag = Lag::new(5, start);
        lag.reaches(at(5), start);
        assert!(lag.has_caught_up());
        lag.leader_has(6, start);
        lag.leader_has(9, start + TOLERATED / 2);
        assert!(lag.is_behind(start + TOLERATED));
        lag.reaches(at(7), start + TOLERATED);
        assert!(!lag.is_behind(start + TOLERATED), "9 is young");
        assert!(lag.is_behind(start + TOLERATED * 3 / 2), "progress is not enough any more");
        lag.leader_has(8, start + TOLERATED);
        assert!(lag.is_behind(start + TOLERATED * 3 / 2), "8 is wanted for as long as 9 was");
        lag.reaches(at(8), start + TOLERATED);
        assert!(lag.has_caught_up());
    }
}
