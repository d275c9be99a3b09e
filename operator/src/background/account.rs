//! Compares what may be kept in NATS with what its account lets be kept: the ceilings of the namespaces, the parked
//! deliveries and the dead letters. If they are more, a stream may be refused, or an event not stored, before anybody has
//! reached a ceiling of their own. The condition `StorageOvercommitted` of Producers, a metric and the log say so.

use std::collections::HashSet;
use std::sync::Arc;

use async_nats::jetstream::account::{Account, Limits};
use hookwright_core::record::lease::Keeps;
use hookwright_crds::{ConditionType, Producer, Storage, Subscription};
use hookwright_runtime::logging;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tracing::{debug, info, warn};

use crate::background::Periodic;
use crate::cache::overcommitted::{Exceeded, managed_storage};
use crate::context::Context;
use crate::metrics::StorageKind;
use crate::quotas::Quotas;
use crate::settings::{self, Settings, SystemStreams};
use crate::status::conditions::find;

/// The look at the limits of the account.
pub(crate) struct AccountLimits;

impl Periodic for AccountLimits {
    async fn turn(&mut self, ctx: &Context) {
        ctx.producers.listed.wait().await;
        ctx.subscriptions.listed.wait().await;
        // Their settings are the dispatchers'.
        let Some(keeps) = ctx.leases.keeps() else { return };
        let account = match ctx.js.account().await {
            Ok(account) => account,
            Err(error) => return debug!(error = logging::chain(&error), "can't look at the limits of the account"),
        };
        let producers = ctx.producers.store.state();
        let subscriptions = ctx.subscriptions.store.state();
        let Settings { quotas, system_streams, .. } = &ctx.settings;
        let mut exceeded = Vec::new();
        for storage in [Storage::File, Storage::Memory] {
            let mut most_beyond = 0;
            for (copies, limit) in limits(&account, storage) {
                let ceiling = ceiling((quotas, system_streams, keeps), (storage, copies), &producers, &subscriptions);
                if ceiling > limit {
                    most_beyond = most_beyond.max(ceiling - limit);
                    exceeded.push(Exceeded { storage, copies, limit });
                }
            }
            let gauge = ctx.metrics.storage_overcommitted.get_or_create(&StorageKind { storage: name(storage) });
            gauge.set(i64::try_from(most_beyond).unwrap_or(i64::MAX));
        }
        if ctx.overcommitted.note(&exceeded) {
            tell(ctx, &producers, &exceeded);
        }
    }
}

fn name(storage: Storage) -> &'static str {
    match storage {
        Storage::File => "File",
        Storage::Memory => "Memory",
    }
}

/// Returns the limits of the account for this storage, each with the number of copies of the streams for which it holds.
/// An account without tiers has one limit, for all copies of all streams together.
fn limits(account: &Account, storage: Storage) -> Vec<(Option<u64>, u64)> {
    let limit = |limits: &Limits| {
        let limit = match storage {
            Storage::File => limits.max_storage,
            Storage::Memory => limits.max_memory,
        };
        limit.and_then(|limit| u64::try_from(limit).ok())
    };
    if account.tiers.is_empty() {
        return limit(&account.limits).map(|limit| (None, limit)).into_iter().collect();
    }
    let tiers = account.tiers.iter().filter_map(|(name, tier)| {
        let copies = name.strip_prefix('R')?.parse().ok()?;
        Some((Some(copies), limit(&tier.limits)?))
    });
    let mut tiers: Vec<_> = tiers.collect();
    tiers.sort_unstable();
    tiers
}

/// Tells what has changed: in the log, and by the Producers' conditions.
fn tell(ctx: &Context, producers: &[Arc<Producer>], exceeded: &[Exceeded]) {
    if exceeded.is_empty() {
        info!("what may be kept in NATS is within the limits of its account");
    } else {
        warn!(
            ?exceeded,
            "what namespaces may keep in NATS, with parking.budget and the dead letters, is more than the limit of its \
             account: raise the limit, or lower the quotas"
        );
    }
    let concerns = |producer: &&Arc<Producer>| {
        let conditions = producer.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        managed_storage(producer).is_some_and(|stream| exceeded.iter().any(|exceeded| exceeded.concerns(stream)))
            || find(conditions, ConditionType::StorageOvercommitted).is_some()
    };
    for producer in producers.iter().filter(concerns) {
        ctx.triggers.producers.reconcile(ObjectRef::from_obj(&**producer));
    }
}

/// Returns how many bytes may be kept in this storage: all copies of all streams or, if a number of copies is given, one
/// copy of the streams with so many, as NATS counts them in a tier. A namespace counts with its ceiling if it has such a
/// stream, however much that one takes.
fn ceiling(
    (quotas, system, keeps): (&Quotas, &SystemStreams, Keeps),
    (storage, copies): (Storage, Option<u64>),
    producers: &[Arc<Producer>],
    subscriptions: &[Arc<Subscription>],
) -> u64 {
    let is_such = |(of, number): (Storage, u64)| of == storage && copies.is_none_or(|copies| copies == number);
    let having = producers.iter().filter(|producer| managed_storage(producer).is_some_and(is_such));
    let having: HashSet<_> = having.filter_map(|producer| producer.namespace()).collect();
    let of = |namespace: &String| quotas.of(namespace).most(storage) / copies.unwrap_or(1).max(1);
    let namespaces = having.iter().fold(0_u64, |sum, namespace| sum.saturating_add(of(namespace)));

    let own = producers.iter().map(|producer| producer.namespace());
    let all: HashSet<_> = own.chain(subscriptions.iter().map(|subscription| subscription.namespace())).collect();
    let system_storage = match system.storage {
        settings::Storage::File => Storage::File,
        settings::Storage::Memory => Storage::Memory,
    };
    let system_copies = u64::try_from(system.replicas).unwrap_or(u64::MAX).max(1);
    if !is_such((system_storage, system_copies)) {
        return namespaces;
    }
    let dead_letters = keeps.dead_letters.saturating_mul(u64::try_from(all.len()).unwrap_or(u64::MAX));
    let kept = keeps.parked.saturating_add(dead_letters);
    let counted = if copies.is_some() { 1 } else { system_copies };
    namespaces.saturating_add(kept.saturating_mul(counted))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<K: serde::de::DeserializeOwned>(kind: &str, namespace: &str, spec: Value) -> Arc<K> {
        let metadata = json!({ "namespace": namespace, "name": "x", "uid": "x" });
        let object =
            json!({ "apiVersion": "hookwright.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn producer(namespace: &str, stream: Value) -> Arc<Producer> {
        object("Producer", namespace, json!({ "subjects": ["a"], "stream": stream }))
    }

    #[test]
    fn the_ceilings_of_namespaces_count_once_with_what_dispatchers_keep() {
        let quotas: Quotas = serde_json::from_value(json!({
            "streamBytes": 100, "memoryBytes": 10, "namespaces": { "rich": { "streamBytes": 500 } },
        }))
        .unwrap();
        let (file, memory) = (json!({ "maxBytes": 1 }), json!({ "storage": "Memory" }));
        let existing = json!({ "policy": "Existing", "name": "x" });
        let producers = [
            producer("shop", file.clone()),
            producer("shop", file.clone()),
            producer("shop", memory.clone()),
            producer("shop", json!({ "replicas": 3 })),
            producer("rich", file),
            producer("other", existing),
        ];
        let endpoint = json!({ "url": "https://example.com/" });
        let spec = json!({ "producerRef": { "name": "x" }, "eventTypes": [{ "type": ">" }], "endpoint": endpoint });
        let subscriptions = [object::<Subscription>("Subscription", "buyer", spec)];
        let keeps = Keeps { parked: 1000, dead_letters: 3 };
        for (system, copies, file, memory) in [
            (json!({}), None, 600 + 1000 + 4 * 3, 10),
            (json!({ "replicas": 3, "storage": "Memory" }), None, 600, 10 + 3 * 1012),
            // In tiers, one copy counts.
            (json!({}), Some(1), 600 + 1012, 10),
            (json!({ "replicas": 3 }), Some(1), 600, 10),
            (json!({ "replicas": 3 }), Some(3), 33 + 1012, 0),
            (json!({}), Some(5), 0, 0),
        ] {
            let system: SystemStreams = serde_json::from_value(system).unwrap();
            let of = |storage| ceiling((&quotas, &system, keeps), (storage, copies), &producers, &subscriptions);
            assert_eq!((of(Storage::File), of(Storage::Memory)), (file, memory), "{system:?} {copies:?}");
        }
    }

    #[test]
    fn an_account_has_one_limit_or_one_for_each_tier() {
        let limits_of = |memory: i64, storage: i64| {
            json!({
                "max_memory": memory, "max_storage": storage, "max_streams": -1, "max_consumers": -1,
                "max_bytes_required": false, "max_ack_pending": -1, "memory_max_stream_bytes": -1,
                "storage_max_stream_bytes": -1,
            })
        };
        let used = json!({
            "memory": 0, "storage": 0, "reserved_memory": 0, "reserved_storage": 0, "streams": 0, "consumers": 0,
        });
        let with = |limits: Value, tiers: Value| -> Account {
            let mut account = used.clone();
            account["limits"] = limits;
            account["api"] = json!({ "total": 0, "errors": 0 });
            account["tiers"] = tiers;
            serde_json::from_value(account).unwrap()
        };
        let tier = |memory, storage| {
            let mut tier = used.clone();
            tier["limits"] = limits_of(memory, storage);
            tier
        };
        for (account, file, memory) in [
            (with(limits_of(-1, 100), json!({})), vec![(None, 100)], vec![]),
            (with(limits_of(7, -1), json!({})), vec![], vec![(None, 7)]),
            (
                with(limits_of(0, 0), json!({ "R3": tier(7, 30), "R1": tier(-1, 10), "other": tier(1, 1) })),
                vec![(Some(1), 10), (Some(3), 30)],
                vec![(Some(3), 7)],
            ),
        ] {
            assert_eq!((limits(&account, Storage::File), limits(&account, Storage::Memory)), (file, memory));
        }
    }
}
