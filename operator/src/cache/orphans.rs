//! The Subscriptions for which deliveries are parked, and no object is known.

use std::collections::HashMap;
use std::time::Duration;

use hookwright_core::nats::ids::SubscriptionUid;
use tokio::time::Instant;

use crate::cache::shared::Shared;

/// How long a Subscription has to be without an object.
const RIPE: Duration = Duration::from_secs(3600);
/// How many are remembered. Others are noted when these are done.
const MOST: usize = 10_000;

/// When each of them was first seen.
#[derive(Default)]
pub(crate) struct Orphans(Shared<HashMap<SubscriptionUid, Instant>>);

impl Orphans {
    /// Notes a Subscription that has no object.
    pub(crate) fn note(&self, uid: SubscriptionUid) {
        let mut seen = self.0.lock();
        if seen.len() < MOST {
            seen.entry(uid).or_insert_with(Instant::now);
        }
    }

    /// Returns up to `most` of those that were first seen an hour ago.
    pub(crate) fn ripe(&self, most: usize) -> Vec<SubscriptionUid> {
        let seen = self.0.lock();
        seen.iter().filter(|(_, since)| since.elapsed() >= RIPE).map(|(uid, _)| uid.clone()).take(most).collect()
    }

    pub(crate) fn forget(&self, uid: &SubscriptionUid) {
        self.0.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ripe_after_an_hour_since_the_first_look() {
        let (orphans, uid) = (Orphans::default(), SubscriptionUid::parse("s-1").unwrap());
        orphans.note(uid.clone());
        tokio::time::advance(RIPE / 2).await;
        orphans.note(uid.clone());
        assert!(orphans.ripe(9).is_empty());
        tokio::time::advance(RIPE / 2).await;
        assert_eq!(orphans.ripe(9), std::slice::from_ref(&uid));
        orphans.forget(&uid);
        assert!(orphans.ripe(9).is_empty());
    }
}
