//! Removes from the buckets what belongs to no object. A deletion leaves such keys behind if NATS or the operator was
//! away. Objects may also be absent for a while only, so what they have stays for an hour.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{
    self, CONFIG_BUCKET, CURSORS_BUCKET, ConfigKey, FORMER_PREFIX, HEALTH_BUCKET, POSITIONS_BUCKET, STATE_BUCKET,
};
use hookwright_core::record;
use hookwright_crds::{EventSchema, Producer, Subscription};
use hookwright_runtime::logging;
use kube::Api;
use kube::api::ListParams;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cache::absent::{Absent, Place};
use crate::context::Context;
use crate::faults;
use crate::lenient::Metadata;
use crate::nats::jetstream::{JsError, JsResult};
use crate::nats::tombstones;
use crate::producer;
use crate::readiness::{Part, Readiness};

const RETRY: Duration = Duration::from_secs(5);
const PAGE: u32 = 500;

/// A sweep failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    #[error("can't read or clean the buckets")]
    Nats(#[from] JsError),
    #[error("can't list the {kind}s")]
    List { kind: &'static str, source: kube::Error },
    #[error("the list of {kind}s has an object whose metadata can't be read")]
    Nameless { kind: &'static str },
}

/// The shortest and the longest time between two sweeps.
const SWEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(900));

/// Sweeps at the start, after each reconnect, and again and again.
pub(crate) async fn keep(ctx: &Context, mut connected: watch::Receiver<u64>, readiness: &Readiness) -> Infallible {
    readiness.until(Part::SystemStreams).await;
    let mut absent = Absent::default();
    let again = (ctx.settings.orphan_grace / 4).clamp(SWEEP.0, SWEEP.1);
    loop {
        connected.mark_unchanged();
        match sweep(ctx, &mut absent).await {
            Ok(0) => {}
            Ok(removed) => info!(removed, "removed keys that belong to no object"),
            Err(error) => {
                warn!(error = logging::chain(&error), "can't look for leftovers; retrying in 5 s");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        tokio::select! {
            Ok(()) = connected.changed() => {}
            () = tokio::time::sleep(again) => {}
        }
    }
}

async fn sweep(ctx: &Context, absent: &mut Absent) -> Result<usize, SweepError> {
    // The keys are read first. An object that has a key now, and isn't in the list that is made afterwards, has gone.
    let mut keys = Vec::new();
    for bucket in [CONFIG_BUCKET, STATE_BUCKET, HEALTH_BUCKET, POSITIONS_BUCKET, CURSORS_BUCKET] {
        keys.extend(ctx.js.keys(bucket, ">").await?.into_iter().map(|key| (bucket, key)));
    }
    let producers = uids::<Producer>(ctx, "Producer").await?;
    let subscriptions = uids::<Subscription>(ctx, "Subscription").await?;
    let schemas = uids::<EventSchema>(ctx, "EventSchema").await?;
    let moved = moved(&keys, &producers);
    let free = ctx.identities.free_keys();
    keys.retain(|(bucket, key)| !is_alive(bucket, key, [&producers, &subscriptions, &schemas, &moved, &free]));
    let mut removed = 0;
    for (bucket, key) in absent.left_over(keys, ctx.settings.orphan_grace, &ctx.let_go) {
        let Some(answer) = faults::one(&key, remove(ctx, bucket, &key, &subscriptions)).await else { continue };
        match answer {
            Ok(was_there) => removed += usize::from(was_there),
            Err(error) if error.is_unavailable() => return Err(error.into()),
            // The key stays until next sweep.
            Err(error) => {
                let error = logging::chain(&error);
                warn!(key, error, "can't remove what a deletion left; trying again later");
            }
        }
    }
    Ok(removed)
}

/// Removes a key, and what its object has left elsewhere. Returns whether it was removed: one that is written meanwhile
/// stays until the next sweep.
async fn remove(ctx: &Context, bucket: &str, key: &str, subscriptions: &HashSet<String>) -> JsResult<bool> {
    let Some(entry) = ctx.js.get(bucket, key).await? else { return Ok(false) };
    if bucket == CONFIG_BUCKET && key.starts_with(FORMER_PREFIX) {
        // From now on no object can go on under that uid. What it has left goes once it was absent for as long again.
        return Ok(ctx.identities.forget(key, entry.revision) && ctx.js.remove_at(bucket, key, entry.revision).await?);
    }
    match (bucket, ConfigKey::parse(key)) {
        (CONFIG_BUCKET, Some(ConfigKey::Producer(_))) => {
            if let Ok(record) = record::decode(&entry.value) {
                producer::cleanup::leftover(&record, ctx).await?;
            }
        }
        // A Subscription that exists may get a new record, under another Producer.
        (CONFIG_BUCKET, Some(ConfigKey::Subscription(_, uid))) if !subscriptions.contains(uid.as_str()) => {
            tombstones::put(&ctx.js, &uid).await?;
        }
        // The mark comes first here, too: without it, a position that has gone is that of a live Subscription.
        (POSITIONS_BUCKET, _) => {
            if let Ok(uid) = SubscriptionUid::parse(key) {
                tombstones::put(&ctx.js, &uid).await?;
            }
        }
        _ => {}
    }
    ctx.js.remove_at(bucket, key, entry.revision).await
}

/// Returns the Subscriptions that have a record under a Producer that exists.
fn moved(keys: &[Place], producers: &HashSet<String>) -> HashSet<String> {
    let records =
        keys.iter().filter(|(bucket, _)| *bucket == CONFIG_BUCKET).filter_map(|(_, key)| ConfigKey::parse(key));
    let served = records.filter_map(|key| match key {
        ConfigKey::Subscription(producer, uid) if producers.contains(producer.as_str()) => Some(uid.to_string()),
        _ => None,
    });
    served.collect()
}

/// Returns whether a key belongs to an object that exists. A key that isn't understood is another release's, and stays. So
/// does the record of a Subscription whose Producer is gone, and may be created again.
fn is_alive(bucket: &str, key: &str, [producers, subscriptions, schemas, moved, free]: [&HashSet<String>; 5]) -> bool {
    if bucket == CONFIG_BUCKET && key.starts_with(FORMER_PREFIX) {
        return !free.contains(key);
    }
    let subscription = match bucket {
        HEALTH_BUCKET => names::parse_health_key(key).map(|(uid, _)| uid),
        POSITIONS_BUCKET | CURSORS_BUCKET => SubscriptionUid::parse(key).ok(),
        _ => names::parse_disabled_key(key).or_else(|| names::parse_test_key(key)),
    };
    if let Some(uid) = subscription {
        return subscriptions.contains(uid.as_str());
    }
    let of_producer = ["checkpoint.", "violations.", "grants."].iter().find_map(|prefix| key.strip_prefix(prefix));
    match (bucket, ConfigKey::parse(key), of_producer) {
        (CONFIG_BUCKET, Some(ConfigKey::Producer(uid)), _) => producers.contains(uid.as_str()),
        (CONFIG_BUCKET, Some(ConfigKey::Subscription(producer, uid)), _) => {
            let is_served = producers.contains(producer.as_str()) || !moved.contains(uid.as_str());
            is_served && subscriptions.contains(uid.as_str())
        }
        (CONFIG_BUCKET, Some(ConfigKey::Schema(producer, uid)), _) => {
            producers.contains(producer.as_str()) && schemas.contains(uid.as_str())
        }
        (STATE_BUCKET, _, Some(uid)) => producers.contains(uid),
        _ => true,
    }
}

/// Returns the uids in NATS of all objects of a kind, from a complete and current list, and those that objects may still
/// take up.
pub(super) async fn uids<K>(ctx: &Context, kind: &'static str) -> Result<HashSet<String>, SweepError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<Metadata<K>> = Api::all(ctx.client.clone());
    let mut parameters = ListParams::default().limit(PAGE);
    let mut uids = HashSet::new();
    loop {
        let page = api.list(&parameters).await.map_err(|source| SweepError::List { kind, source })?;
        for object in page.items {
            // A list that lacks an object is not complete.
            uids.insert(ctx.identities.of_uid(&object.meta.uid.ok_or(SweepError::Nameless { kind })?));
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    uids.extend(ctx.identities.free_uids(&K::kind(&())));
    Ok(uids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_no_object() {
        let set = |uids: &[&str]| uids.iter().map(|uid| (*uid).to_owned()).collect::<HashSet<_>>();
        let (producers, subscriptions, schemas, moved) = (set(&["p"]), set(&["s", "w"]), set(&["e"]), set(&["s"]));
        let free = set(&["former.Producer.shop.free"]);
        for (bucket, key, want) in [
            (CONFIG_BUCKET, "producer.p", true),
            (CONFIG_BUCKET, "producer.q", false),
            (CONFIG_BUCKET, "subscription.p.s", true),
            (CONFIG_BUCKET, "subscription.q.s", false),
            (CONFIG_BUCKET, "subscription.q.w", true),
            (CONFIG_BUCKET, "subscription.p.t", false),
            (CONFIG_BUCKET, "schema.p.e", true),
            (CONFIG_BUCKET, "schema.q.e", false),
            (CONFIG_BUCKET, "schema.p.s", false),
            (CONFIG_BUCKET, "former.Producer.shop.taken", true),
            (CONFIG_BUCKET, "former.Producer.shop.free", false),
            (CONFIG_BUCKET, "other.x", true),
            (CONFIG_BUCKET, "deleted.t", true),
            (STATE_BUCKET, "violations.p", true),
            (STATE_BUCKET, "violations.q", false),
            (STATE_BUCKET, "grants.p", true),
            (STATE_BUCKET, "grants.q", false),
            (STATE_BUCKET, "disabled.s", true),
            (STATE_BUCKET, "disabled.t", false),
            (STATE_BUCKET, "test.s", true),
            (STATE_BUCKET, "test.t", false),
            (STATE_BUCKET, "checkpoint.p", true),
            (STATE_BUCKET, "checkpoint.q", false),
            (HEALTH_BUCKET, "s.inc", true),
            (HEALTH_BUCKET, "t.inc", false),
            (POSITIONS_BUCKET, "s", true),
            (POSITIONS_BUCKET, "t", false),
            (POSITIONS_BUCKET, "t.x", true),
            (CURSORS_BUCKET, "s", true),
            (CURSORS_BUCKET, "t", false),
        ] {
            let there = [&producers, &subscriptions, &schemas, &moved, &free];
            assert_eq!(is_alive(bucket, key, there), want, "{bucket} {key}");
        }
    }
}
