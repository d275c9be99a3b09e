//! Compares what may be kept in NATS with what its account lets be kept: the ceilings of the namespaces, the parked
//! deliveries and the dead letters. If they are more, a stream may be refused, or an event not stored, before anybody has
//! reached a ceiling of their own. The condition `StorageOvercommitted` of Producers, a metric and the log say so.

use std::collections::HashSet;
use std::sync::Arc;

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
use crate::quotas::{Quota, Quotas};
use crate::settings::{self, Settings, SystemStreams};
use crate::status::conditions::find;

/// The look at the limits of the account.
pub(crate) struct AccountLimits;

/// How many bytes may be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ceilings {
    file: u64,
    memory: u64,
}

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
        // Limits of a tier hold for streams with so many replicas alone.
        let limits = if account.tiers.is_empty() { account.limits } else { Default::default() };
        let producers = ctx.producers.store.state();
        let subscriptions = ctx.subscriptions.store.state();
        let Settings { quotas, system_streams, .. } = &ctx.settings;
        let ceilings = Ceilings::of((quotas, system_streams, keeps), &producers, &subscriptions);
        let beyond = |kind, ceiling: u64, limit: Option<i64>| {
            let limit = limit.and_then(|limit| u64::try_from(limit).ok());
            let beyond = limit.map_or(0, |limit| ceiling.saturating_sub(limit));
            let gauge = ctx.metrics.storage_overcommitted.get_or_create(&StorageKind { storage: kind });
            gauge.set(i64::try_from(beyond).unwrap_or(i64::MAX));
            limit.filter(|_| beyond > 0)
        };
        let exceeded = Exceeded {
            file: beyond("File", ceilings.file, limits.max_storage),
            memory: beyond("Memory", ceilings.memory, limits.max_memory),
        };
        if ctx.overcommitted.note(exceeded) {
            tell(ctx, &producers, exceeded, ceilings);
        }
    }
}

/// Tells what has changed: in the log, and by the Producers' conditions.
fn tell(ctx: &Context, producers: &[Arc<Producer>], exceeded: Exceeded, ceilings: Ceilings) {
    if exceeded == Exceeded::default() {
        info!(?ceilings, "what may be kept in NATS is within the limits of its account");
    } else {
        warn!(
            ?ceilings,
            ?exceeded,
            "what namespaces may keep in NATS, with parking.budget and the dead letters, is more than the limit of its \
             account: raise the limit, or lower the quotas"
        );
    }
    let concerns = |producer: &&Arc<Producer>| {
        let conditions = producer.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        managed_storage(producer).is_some_and(|storage| exceeded.of(storage).is_some())
            || find(conditions, ConditionType::StorageOvercommitted).is_some()
    };
    for producer in producers.iter().filter(concerns) {
        ctx.triggers.producers.reconcile(ObjectRef::from_obj(&**producer));
    }
}

impl Ceilings {
    /// A namespace counts with its ceiling if it has such a stream, however much that one takes.
    fn of(
        (quotas, system, keeps): (&Quotas, &SystemStreams, Keeps),
        producers: &[Arc<Producer>],
        subscriptions: &[Arc<Subscription>],
    ) -> Self {
        let with = |storage| {
            let has = |producer: &&Arc<Producer>| managed_storage(producer) == Some(storage);
            producers.iter().filter(has).filter_map(|producer| producer.namespace()).collect::<HashSet<_>>()
        };
        let sum = |namespaces: HashSet<String>, of: fn(&Quota) -> u64| {
            namespaces.iter().fold(0_u64, |sum, namespace| sum.saturating_add(of(quotas.of(namespace))))
        };
        let mut ceilings = Self {
            file: sum(with(Storage::File), |quota| quota.stream_bytes),
            memory: sum(with(Storage::Memory), |quota| quota.memory_bytes),
        };
        let own = producers.iter().map(|producer| producer.namespace());
        let all: HashSet<_> = own.chain(subscriptions.iter().map(|subscription| subscription.namespace())).collect();
        let copies = u64::try_from(system.replicas).unwrap_or(u64::MAX);
        let dead_letters = keeps.dead_letters.saturating_mul(u64::try_from(all.len()).unwrap_or(u64::MAX));
        let own = match system.storage {
            settings::Storage::File => &mut ceilings.file,
            settings::Storage::Memory => &mut ceilings.memory,
        };
        *own = own.saturating_add(keeps.parked.saturating_add(dead_letters).saturating_mul(copies));
        ceilings
    }
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
            producer("rich", file),
            producer("other", existing),
        ];
        let endpoint = json!({ "url": "https://example.com/" });
        let spec = json!({ "producerRef": { "name": "x" }, "eventTypes": [{ "type": ">" }], "endpoint": endpoint });
        let subscriptions = [object::<Subscription>("Subscription", "buyer", spec)];
        let keeps = Keeps { parked: 1000, dead_letters: 3 };
        for (system, want) in [
            (json!({}), Ceilings { file: 600 + 1000 + 4 * 3, memory: 10 }),
            (json!({ "replicas": 3, "storage": "Memory" }), Ceilings { file: 600, memory: 10 + 3 * 1012 }),
        ] {
            let system: SystemStreams = serde_json::from_value(system).unwrap();
            assert_eq!(Ceilings::of((&quotas, &system, keeps), &producers, &subscriptions), want);
        }
    }
}
