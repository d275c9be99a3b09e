//! Folds the keys of dispatchers that have gone into the base. `hookwright_core::delivery::health::base` says why that is
//! safe, also if several operators do it, or if a dispatcher has not gone after all.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::StreamExt;
use hookwright_core::delivery::health::DeliveryCounts;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{HEALTH_BUCKET, health_key};
use hookwright_core::record::lease::TTL;
use hookwright_core::record::{self, RecordError};
use hookwright_runtime::logging;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, info};

use super::base::{self, BaseError};
use crate::background::Periodic;
use crate::context::Context;
use crate::faults;

const AT_ONCE: usize = 8;
/// A dispatcher has gone if it held no lease for this long.
const GONE_AFTER: Duration = TTL.saturating_mul(3);

/// The time since which each dispatcher has had no lease.
#[derive(Default)]
struct Absent(HashMap<String, Instant>);

impl Absent {
    /// Returns the dispatchers among `all` that have gone.
    fn gone<'a>(&mut self, all: impl Iterator<Item = (&'a str, bool)>, now: Instant) -> Vec<String> {
        let mut absent = HashMap::new();
        for (dispatcher, live) in all {
            if !live {
                absent.insert(dispatcher.to_owned(), *self.0.get(dispatcher).unwrap_or(&now));
            }
        }
        self.0 = absent;
        let gone = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= GONE_AFTER);
        gone.map(|(dispatcher, _)| dispatcher.clone()).collect()
    }
}

/// The folding, with what it remembers between its turns.
#[derive(Default)]
pub(crate) struct Fold {
    absent: Absent,
    /// The connection to NATS in which the absences were noted.
    epoch: u64,
}

impl Periodic for Fold {
    async fn turn(&mut self, ctx: &Context) {
        if !ctx.health.loaded() {
            return;
        }
        if self.epoch != ctx.js.epoch() {
            // NATS was away, and the leases with it.
            *self = Self { absent: Absent::default(), epoch: ctx.js.epoch() };
        }
        let mut keys: BTreeMap<String, Vec<SubscriptionUid>> = BTreeMap::new();
        for (uid, incarnation) in ctx.health.keys() {
            keys.entry(incarnation).or_default().push(uid);
        }
        let live: Option<Vec<_>> = keys.keys().map(|name| Some((name.as_str(), ctx.leases.is_live(name)?))).collect();
        let Some(live) = live else { return };
        for dispatcher in self.absent.gone(live.into_iter(), Instant::now()) {
            fold_dispatcher(ctx, &dispatcher, keys.remove(&dispatcher).unwrap_or_default()).await;
        }
    }
}

async fn fold_dispatcher(ctx: &Context, dispatcher: &str, uids: Vec<SubscriptionUid>) {
    let subscriptions = uids.len();
    let folds = futures::stream::iter(uids).map(|uid| async move {
        if let Some(Err(error)) = faults::one(&uid, fold(ctx, &uid, dispatcher)).await {
            debug!(subscription_uid = %uid, dispatcher, error = logging::chain(&error), "can't fold counts yet");
        }
    });
    folds.buffer_unordered(AT_ONCE).collect::<()>().await;
    info!(dispatcher, subscriptions, "folded the counts of a dispatcher that has gone");
}

async fn fold(ctx: &Context, uid: &SubscriptionUid, dispatcher: &str) -> Result<(), BaseError> {
    let key = health_key(uid, dispatcher);
    let Some(entry) = ctx.js.get(HEALTH_BUCKET, &key).await? else { return Ok(()) };
    let counts: DeliveryCounts = match record::decode(&entry.value) {
        // It counts for nothing.
        Err(RecordError::NoRecord(_)) => {
            ctx.js.remove_at(HEALTH_BUCKET, &key, entry.revision).await?;
            return Ok(());
        }
        counts => counts?,
    };
    let present = |incarnation: &str| ctx.health.has_key(uid, incarnation);
    base::change(&ctx.js, uid, |base| base.fold(dispatcher, &counts, present, Timestamp::now())).await?;
    // The dispatcher may have parked or taken deliveries without writing it down.
    ctx.health.suspect(uid.clone());
    // If the key is at another revision, its dispatcher is alive and counts on. The rest is folded when it has gone.
    ctx.js.remove_at(HEALTH_BUCKET, &key, entry.revision).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gone_is_who_held_no_lease_for_long() {
        let (mut absent, start) = (Absent::default(), Instant::now());
        let mut gone = |seconds, a, b| {
            let all = [("a", a), ("b", b)].into_iter();
            absent.gone(all, start + Duration::from_secs(seconds))
        };
        assert!(gone(0, false, true).is_empty());
        assert!(gone(20, false, false).is_empty());
        assert_eq!(gone(24, false, true), ["a"], "b is back");
        assert_eq!(gone(40, true, false), Vec::<String>::new(), "a is back, and b away anew");
        assert_eq!(gone(64, false, false), ["b"]);
    }
}
