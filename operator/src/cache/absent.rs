//! Which keys of the buckets belong to no object, and since when.
//!
//! An object that is absent from a complete list may only be late: restored from a backup, or applied again after the
//! cluster was rebuilt. So what it has in the buckets counts as left over after a while. If this operator has let the
//! object go itself, it knows at once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::shared::Shared;

/// A bucket and a key in it.
pub(crate) type Place = (&'static str, String);

/// Since when the keys that belong to no object have been so.
#[derive(Default)]
pub(crate) struct Absent(HashMap<Place, Instant>);

impl Absent {
    /// Takes the keys that belong to no object now. Returns those that have been so each time for this long, and those of
    /// objects that were let go.
    pub(crate) fn left_over(&mut self, now: Vec<Place>, grace: Duration, let_go: &LetGo) -> Vec<Place> {
        let mut before = std::mem::take(&mut self.0);
        let mut left_over = Vec::new();
        for place in now {
            let since = before.remove(&place).unwrap_or_else(Instant::now);
            if since.elapsed() >= grace || let_go.is_named_by(&place.1) {
                left_over.push(place.clone());
            }
            self.0.insert(place, since);
        }
        left_over
    }
}

/// The uids of objects that this operator has let go without cleaning up, as NATS was away.
#[derive(Default)]
pub(crate) struct LetGo(Shared<HashSet<String>>);

impl LetGo {
    pub(crate) fn note(&self, uid: String) {
        self.0.lock().insert(uid);
    }

    pub(crate) fn has(&self, uid: &str) -> bool {
        self.0.lock().contains(uid)
    }

    /// Returns whether the key has one of the uids in it.
    fn is_named_by(&self, key: &str) -> bool {
        let uids = self.0.lock();
        !uids.is_empty() && key.split('.').any(|token| uids.contains(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_absent_for_long_is_left_over() {
        let (mut absent, let_go, hour) = (Absent::default(), LetGo::default(), Duration::from_secs(3600));
        let_go.note("deleted".to_owned());
        let mut left_over = |keys: &[&str]| -> Vec<String> {
            let now = keys.iter().map(|key| ("BUCKET", (*key).to_owned())).collect();
            absent.left_over(now, hour, &let_go).into_iter().map(|(_, key)| key).collect()
        };
        assert_eq!(left_over(&["producer.a", "producer.b", "schema.a.deleted"]), ["schema.a.deleted"]);
        tokio::time::advance(hour / 2).await;
        assert!(left_over(&["producer.b"]).is_empty());
        tokio::time::advance(hour / 2).await;
        assert_eq!(left_over(&["producer.a", "producer.b"]), ["producer.b"], "a was there in between");
        tokio::time::advance(hour).await;
        assert_eq!(left_over(&["producer.a"]), ["producer.a"]);
    }
}
