//! The egress rules that are in force: the operator's own, which may change while it runs, and those of the dispatchers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hookwright_core::destination::egress::Egress;
use hookwright_crds::Subscription;
use hookwright_runtime::egress::EgressFile;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;
use tracing::{info, warn};
use url::Url;

use crate::background::Periodic;
use crate::context::Context;

/// For how long dispatchers may go by other egress rules. A ConfigMap that has changed comes to each node at its own
/// time, up to a minute and a half later.
const PATIENCE: Duration = Duration::from_secs(180);

/// Reads the file again and again, and follows the rules in force.
pub(crate) async fn follow(file: EgressFile, ctx: &Context) -> Infallible {
    tokio::select! {
        never = file.follow(ctx.metrics.egress_file_unusable.clone()) => never,
        never = judge_anew(ctx) => never,
    }
}

/// Reconciles the Subscriptions whose endpoints are judged otherwise whenever the rules change.
async fn judge_anew(ctx: &Context) -> Infallible {
    let mut changes = ctx.egress.clone();
    let mut former = changes.borrow_and_update().clone();
    while changes.changed().await.is_ok() {
        let rules = changes.borrow_and_update().clone();
        let is_judged_anew = |one: &Subscription| is_judged_anew(one, &former.egress, &rules.egress);
        let judged_anew = ctx.subscriptions.store.state_filter(is_judged_anew);
        info!(subscriptions = judged_anew.len(), "the egress rules have changed; judging endpoints anew");
        for subscription in judged_anew {
            ctx.triggers.subscriptions.reconcile(ObjectRef::from_obj(&*subscription));
        }
        former = rules;
    }
    // The file is followed for as long as the process runs.
    std::future::pending().await
}

/// Returns whether the rules may say something else about the Subscription's endpoint than before.
fn is_judged_anew(subscription: &Subscription, former: &Egress, now: &Egress) -> bool {
    let namespace = subscription.namespace().unwrap_or_default();
    let (former, now) = (former.of(&namespace), now.of(&namespace));
    if Arc::ptr_eq(former, now) {
        return false;
    }
    match &subscription.spec.endpoint.url {
        Some(url) => Url::parse(url).is_ok_and(|url| former.refusals(&url) != now.refusals(&url)),
        // Which address the Service has is known once it is looked up.
        None => true,
    }
}

/// Compares the egress files that the dispatchers go by with the operator's. While they differ, a Subscription that is
/// accepted may be sent nothing.
#[derive(Default)]
pub(crate) struct Agreement {
    /// Since when dispatchers go by another file.
    since: HashMap<String, Instant>,
    /// The dispatchers of which the log has told.
    told: BTreeSet<String>,
}

impl Periodic for Agreement {
    async fn turn(&mut self, ctx: &Context) {
        let digest = ctx.egress.borrow().digest.clone();
        let others = self.note(ctx.leases.with_other_rules(&digest), Instant::now());
        ctx.metrics.egress_rules_differ.set(i64::try_from(others.len()).unwrap_or(i64::MAX));
        if others == self.told {
            return;
        }
        if others.is_empty() {
            info!(digest, "all dispatchers go by the operator's egress file");
        } else {
            warn!(
                digest,
                dispatchers = ?others,
                "dispatchers go by another egress file than the operator, for more than three minutes: give all of \
                 them the same; their logs say whether theirs can't be used"
            );
        }
        self.told = others;
    }
}

impl Agreement {
    /// Notes which dispatchers go by another file now. Returns those that have done so for long.
    fn note(&mut self, others: HashSet<String>, now: Instant) -> BTreeSet<String> {
        self.since.retain(|dispatcher, _| others.contains(dispatcher));
        for dispatcher in others {
            self.since.entry(dispatcher).or_insert(now);
        }
        let for_long = self.since.iter().filter(|(_, since)| now.duration_since(**since) >= PATIENCE);
        for_long.map(|(dispatcher, _)| dispatcher.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_dispatcher_that_goes_by_another_file_is_told_after_a_while() {
        let (mut agreement, start) = (Agreement::default(), Instant::now());
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<HashSet<_>>();
        for (second, others, told) in [
            (0, &["a"][..], &[][..]),
            (90, &["a", "b"], &[]),
            (180, &["a", "b"], &["a"]),
            (270, &["a", "b"], &["a", "b"]),
            (275, &["b"], &["b"]),
            (280, &[], &[]),
            // It has agreed meanwhile.
            (285, &["b"], &[]),
            (465, &["b"], &["b"]),
        ] {
            let noted = agreement.note(set(others), start + Duration::from_secs(second));
            assert_eq!(noted.iter().map(String::as_str).collect::<Vec<_>>(), told, "{second}");
        }
    }

    #[test]
    fn endpoints_are_judged_anew_of_which_the_rules_say_something_else() {
        let rules = |settings: Value| serde_json::from_value::<Egress>(settings).unwrap();
        let former = rules(json!({ "namespaces": { "shop": { "allowedPorts": [443, 8443] } } }));
        let subscription = |namespace: &str, endpoint: Value| {
            let spec = json!({ "producerRef": { "name": "orders" }, "endpoint": endpoint });
            let object = json!({
                "apiVersion": "hookwright.dev/v1alpha1", "kind": "Subscription",
                "metadata": { "name": "billing", "namespace": namespace }, "spec": spec,
            });
            serde_json::from_value::<Subscription>(object).unwrap()
        };
        let (public, port) = (json!({ "url": "https://example.com/" }), json!({ "url": "https://example.com:8443/" }));
        let (local, service) =
            (json!({ "url": "http://localhost:8080/" }), json!({ "serviceRef": { "name": "crm", "port": 80 } }));
        let endpoints = [public, port, local, service];
        for (settings, in_shop, elsewhere) in [
            (json!({ "namespaces": { "shop": { "allowedPorts": [443, 8443] } } }), [false; 4], [false; 4]),
            (json!({}), [false, true, false, true], [false; 4]),
            (
                json!({ "plainHttp": true, "namespaces": { "shop": { "allowedPorts": [443, 8443], "plainHttp": false } } }),
                [false; 4],
                [false, false, true, true],
            ),
            (json!({ "allowedHosts": ["example.org"] }), [true; 4], [true; 4]),
        ] {
            let now = rules(settings.clone()).after(&former);
            for (namespace, want) in [("shop", in_shop), ("elsewhere", elsewhere)] {
                let judged =
                    |endpoint: &Value| is_judged_anew(&subscription(namespace, endpoint.clone()), &former, &now);
                assert_eq!(endpoints.each_ref().map(judged), want, "{namespace} {settings}");
            }
        }
    }
}
