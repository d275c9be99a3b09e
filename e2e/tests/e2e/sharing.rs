//! Producers that share: with other namespaces, and their delivery policy with their Subscriptions.

mod stored;
mod streams;

pub(crate) use streams::refused;

use std::time::{Duration, Instant};

use hookwright_e2e::{Answer, Options, World, is_long, wait_for};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, all_loaded, began_after, beside, condition, merge, once_in_three, shared};

/// A grant heals sooner than anything is looked at again by the clock, which is after 30 s.
const GRANTED: Duration = Duration::from_secs(20);

/// A Subscription in `namespace` to the shop's Producer `orders`, to the path `/<namespace>`.
pub(crate) fn foreign(shop: &Shop<'_>, namespace: &str) -> Value {
    json!({
        "apiVersion": "hookwright.dev/v1alpha1",
        "kind": "Subscription",
        "metadata": { "name": "foreign", "namespace": namespace },
        "spec": {
            "producerRef": { "name": "orders", "namespace": shop.namespace },
            "eventTypes": [{ "type": ">" }],
            "endpoint": { "url": shop.receiver.url(&format!("/{namespace}")) },
        },
    })
}

/// Waits for reason `RefNotPermitted` at the Subscription `foreign` of `namespace`, and returns its status.
pub(crate) async fn shut_out(shop: &Shop<'_>, namespace: &str) -> Value {
    let check = |status: &Value| {
        let resolved = condition(status, "ResolvedRefs");
        resolved["status"] == "False"
            && resolved["reason"] == "RefNotPermitted"
            && condition(status, "Ready")["status"] == "False"
    };
    let found = shop.world.wait_status(namespace, "foreign", "shut out", SOON, check).await.unwrap();
    found["status"].clone()
}

pub(crate) async fn let_in(shop: &Shop<'_>, namespace: &str) {
    let ready = |status: &Value| condition(status, "Ready")["status"] == "True";
    shop.world.wait_status(namespace, "foreign", "let in", SOON, ready).await.unwrap();
}

/// The shop's Producer `orders` with this over its spec; nulls take fields away.
pub(crate) async fn edit_producer(shop: &Shop<'_>, spec: Value) {
    let patch = json!({ "spec": spec }).to_string();
    let patch = ["patch", "producer.hookwright.dev/orders", "-n", &shop.namespace, "--type=merge", "-p", &patch];
    shop.world.control_plane.kubectl(&patch).await.unwrap();
}

async fn label(shop: &Shop<'_>, namespace: &str, label: &str) {
    shop.world.control_plane.kubectl(&["label", "namespace", namespace, label, "--overwrite"]).await.unwrap();
}

/// Publishes events, and waits until the shop's own Subscription `own` has had them: what has not arrived at another
/// by then was not sent, but for what is on its way.
async fn publish_and_wait(shop: &Shop<'_>, published: &mut usize) {
    for _ in 0..5 {
        shop.publish(&shop.event("a", "{}")).await;
        *published += 1;
    }
    shop.requests("own", *published).await;
}

#[tokio::test]
async fn a_grant_opens_what_is_published_from_then_on() {
    let (shop, _machine) = shared().await;
    let (red, blue) = (shop.world.namespace("red").await.unwrap(), shop.world.namespace("blue").await.unwrap());
    let published = &mut 0;
    shop.subscribe("own", &[">"], json!({})).await;
    publish_and_wait(&shop, published).await;
    edit_producer(&shop, json!({ "allowedNamespaces": { "from": "All" } })).await;
    shop.world.wait_ready(&shop.namespace, "producers", "orders").await.unwrap();
    publish_and_wait(&shop, published).await;
    let earliest = |namespace: &str| {
        let mut object = foreign(&shop, namespace);
        object["spec"]["startFrom"] = json!({ "position": "Earliest" });
        object
    };
    shop.world.control_plane.apply_json(&earliest(&red)).await.unwrap();
    shop.requests(&red, 5).await;
    edit_producer(&shop, json!({ "allowedNamespaces": { "history": "All" } })).await;
    shop.world.wait_ready(&shop.namespace, "producers", "orders").await.unwrap();
    shop.world.control_plane.apply_json(&earliest(&blue)).await.unwrap();
    shop.requests(&blue, 10).await;
    assert_eq!(shop.receiver.count(&format!("/{red}")), 5);
    let plane = &shop.world.control_plane;
    for (namespace, sequence, incomplete) in [(&red, 6, json!(true)), (&blue, 1, json!(null))] {
        let status = plane.get(namespace, "subscriptions", "foreign").await.unwrap()["status"].clone();
        let started = &status["startedFrom"];
        assert_eq!((&started["sequence"], &started["incomplete"]), (&json!(sequence), &incomplete), "{namespace}");
    }

    // What waited when the namespace was shut out is not of the next grant.
    let mut waiting = earliest(&red);
    waiting["spec"]["suspend"] = json!(true);
    plane.apply_json(&waiting).await.unwrap();
    shop.world.wait_ready(&red, "subscriptions", "foreign").await.unwrap();
    publish_and_wait(&shop, published).await;
    shop.all_acked(SOON).await;
    edit_producer(&shop, json!({ "allowedNamespaces": { "from": "Same", "history": null } })).await;
    shut_out(&shop, &red).await;
    publish_and_wait(&shop, published).await;
    edit_producer(&shop, json!({ "allowedNamespaces": { "from": "All" } })).await;
    plane.apply_json(&earliest(&red)).await.unwrap();
    let_in(&shop, &red).await;
    publish_and_wait(&shop, published).await;
    shop.requests(&red, 10).await;
    let resumed = |status: &Value| condition(status, "Delivering")["reason"] == "Live";
    shop.world.wait_status(&red, "foreign", "live", SOON, resumed).await.unwrap();
    assert_eq!(shop.deliveries(&format!("/{red}")).len(), 10);
}

/// Has a world of its own: in the shared one objects are looked at again every 4 s, which would hide a missing watch.
#[tokio::test]
async fn grants_heal_and_revocations_stop_without_a_restart() {
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let (red, blue) = (world.namespace("red").await.unwrap(), world.namespace("blue").await.unwrap());
    let published = &mut 0;
    shop.subscribe("own", &[">"], json!({})).await;
    for namespace in [&red, &blue] {
        world.control_plane.apply_json(&foreign(&shop, namespace)).await.unwrap();
    }
    let count = |namespace: &str| shop.receiver.count(&format!("/{namespace}"));

    // Same, by default.
    let unknown = shut_out(&shop, &red).await;
    shut_out(&shop, &blue).await;
    assert!(unknown["effectiveDelivery"].is_null());
    publish_and_wait(&shop, published).await;
    assert_eq!((count(&red), count(&blue)), (0, 0));

    // All.
    once_in_three("a grant by the Producer", async |n| {
        if n > 1 {
            edit_producer(&shop, json!({ "allowedNamespaces": null })).await;
            shut_out(&shop, &red).await;
            shut_out(&shop, &blue).await;
        }
        let start = Instant::now();
        edit_producer(&shop, json!({ "allowedNamespaces": { "from": "All" } })).await;
        let_in(&shop, &red).await;
        let_in(&shop, &blue).await;
        by_a_signal(start)
    })
    .await;
    publish_and_wait(&shop, published).await;
    shop.requests(&red, 5).await;
    shop.requests(&blue, 5).await;

    // Selector, by an edit of the Producer that lets only one stay in.
    label(&shop, &red, "team=red").await;
    let selector = json!({ "from": "Selector", "selector": { "matchLabels": { "team": "red" } } });
    edit_producer(&shop, json!({ "allowedNamespaces": selector })).await;
    shut_out(&shop, &blue).await;
    nothing_more(&shop, &blue, published).await;
    assert!(count(&red) > 5, "the other goes on");

    // By the namespaces' labels.
    once_in_three("a grant by a label", async |n| {
        if n > 1 {
            label(&shop, &blue, "team=blue").await;
            shut_out(&shop, &blue).await;
        }
        let start = Instant::now();
        label(&shop, &blue, "team=red").await;
        let_in(&shop, &blue).await;
        by_a_signal(start)
    })
    .await;
    let before = count(&blue);
    publish_and_wait(&shop, published).await;
    shop.requests(&blue, before + 5).await;
    label(&shop, &red, "team=green").await;
    shut_out(&shop, &red).await;
    nothing_more(&shop, &red, published).await;

    // And back to none.
    edit_producer(&shop, json!({ "allowedNamespaces": null })).await;
    shut_out(&shop, &blue).await;
    nothing_more(&shop, &blue, published).await;
    let producer = world.control_plane.get(&shop.namespace, "producers", "orders").await.unwrap();
    assert_eq!(producer["status"]["subscriptions"], 1, "those that are shut out are not counted");
}

/// Whether it healed by a signal: sooner than by the clock.
fn by_a_signal(start: Instant) -> anyhow::Result<()> {
    let took = start.elapsed();
    anyhow::ensure!(took < GRANTED, "{took:?}");
    Ok(())
}

/// No attempt for `namespace` begins once the dispatchers have loaded that it is shut out, while events come in.
async fn nothing_more(shop: &Shop<'_>, namespace: &str, published: &mut usize) {
    let (revoked, loaded) = (Instant::now(), all_loaded(shop.world).await);
    assert!(!is_long() || revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    while loaded.elapsed().unwrap() < Duration::from_secs(8) {
        publish_and_wait(shop, published).await;
    }
    // One that has begun and is not sent yet gets some time.
    let late = began_after(&shop.receiver.requests(&format!("/{namespace}")), loaded + Duration::from_secs(5));
    assert_eq!(late, 0, "deliveries to {namespace} after it was shut out");
}

#[tokio::test]
async fn who_is_not_let_in_learns_nothing_and_what_waits_there_is_dropped() {
    let (shop, _machine) = shared().await;
    let namespace = shop.world.namespace("spy").await.unwrap();
    let published = &mut 0;
    shop.subscribe("own", &[">"], json!({})).await;
    let plane = &shop.world.control_plane;
    plane.apply_json(&foreign(&shop, &namespace)).await.unwrap();
    let there = shut_out(&shop, &namespace).await;
    let mut missing = foreign(&shop, &namespace);
    merge(&mut missing, json!({ "metadata": { "name": "missing" }, "spec": { "producerRef": { "name": "nothere" } } }));
    plane.apply_json(&missing).await.unwrap();
    let refused = |status: &Value| condition(status, "ResolvedRefs")["reason"] == "RefNotPermitted";
    let found = shop.world.wait_status(&namespace, "missing", "shut out", SOON, refused).await.unwrap();
    let message = |status: &Value| {
        let message = condition(status, "ResolvedRefs")["message"].as_str().unwrap().to_owned();
        message.replace("nothere", "orders")
    };
    assert_eq!(message(&there), message(&found["status"]));

    // Let in, with a retry under way; then shut out while its spec can't be used either.
    edit_producer(&shop, json!({ "allowedNamespaces": { "from": "All" } })).await;
    shop.receiver.answer(&format!("/{namespace}"), Answer::status(500));
    let retry = json!({ "maxAttempts": 100, "backoff": { "type": "Fixed", "delay": "1s" }, "jitterPercent": 0 });
    let mut object = foreign(&shop, &namespace);
    merge(&mut object, json!({ "spec": { "delivery": { "retry": retry } } }));
    plane.apply_json(&object).await.unwrap();
    shop.world.wait_ready(&namespace, "subscriptions", "foreign").await.unwrap();
    publish_and_wait(&shop, published).await;
    shop.receiver.wait_count(&format!("/{namespace}"), 8, SOON).await.unwrap();
    merge(
        &mut object,
        json!({ "spec": { "signing": { "keys": [{ "secretKeyRef": { "name": "none", "key": "none" } }] } } }),
    );
    plane.apply_json(&object).await.unwrap();
    edit_producer(&shop, json!({ "allowedNamespaces": { "from": "Same" } })).await;
    shut_out(&shop, &namespace).await;
    nothing_more(&shop, &namespace, published).await;
}

#[tokio::test]
async fn subscriptions_inherit_the_producers_delivery_field_by_field() {
    let (shop, _machine) = shared().await;
    let fixed = json!({ "maxAttempts": 2, "backoff": { "type": "Fixed", "delay": "1s" }, "jitterPercent": 0 });
    edit_producer(&shop, json!({ "delivery": { "timeout": "3s", "retry": fixed } })).await;
    let uid = shop.subscribe("heir", &[">"], json!({ "delivery": { "timeout": "5s" } })).await;
    let effective = async |what: &str, check: &dyn Fn(&Value) -> bool| {
        shop.status("heir", what, |status| check(&status["effectiveDelivery"])).await["effectiveDelivery"].clone()
    };
    let inherited = effective("inheriting", &|delivery| delivery["retry"]["maxAttempts"] == 2).await;
    let retry = json!({ "maxAttempts": 2, "backoff": { "type": "Fixed", "delay": "1s" }, "jitterPercent": 0 });
    let want = json!({
        "timeout": "5s",
        "retry": retry,
        "deadLetter": { "policy": "Keep" },
        "disableAfter": "120h",
        "onResume": "CatchUp",
    });
    assert_eq!(inherited, want);

    // It is what happens, too.
    shop.receiver.answer("/heir", Answer::status(500));
    shop.publish(&shop.event("a", "1")).await;
    let (letter, body) = shop.dead_letter(&uid).await;
    assert_eq!((letter.progress.attempts, body.as_str()), (2, "1"));

    // An edit of the Producer reaches what is there; the Subscription's own word stays.
    let linear = json!({ "maxAttempts": 3, "backoff": { "type": "Linear", "delay": "1s" }, "jitterPercent": 0 });
    let edit = json!({ "delivery": { "timeout": "4s", "retry": linear, "deadLetter": { "policy": "Discard" } } });
    edit_producer(&shop, json!({ "delivery": { "retry": null } })).await;
    edit_producer(&shop, edit).await;
    let changed = effective("changed", &|delivery| delivery["retry"]["backoff"]["type"] == "Linear").await;
    assert_eq!((&changed["timeout"], &changed["deadLetter"]["policy"]), (&json!("5s"), &json!("Discard")));
    assert_eq!(changed["retry"]["backoff"], json!({ "type": "Linear", "delay": "1s", "maxDelay": "24h" }));
    let before = shop.receiver.count("/heir");
    wait_for("three attempts, 1 s and 2 s apart", SOON, async || {
        let start = shop.receiver.count("/heir");
        shop.publish(&shop.event("a", "2")).await;
        let got = shop.requests("heir", start + 3).await;
        let gaps: Vec<_> = got[start..].windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        // None comes too early. On a slow machine one may come late.
        let least = |gap: Duration, seconds: f64| gap.as_secs_f64() > seconds - 0.1;
        anyhow::ensure!(least(gaps[0], 1.0) && least(gaps[1], 2.0), "{gaps:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert!(shop.receiver.count("/heir") >= before + 3);

    // Without the Producer's, the defaults.
    edit_producer(&shop, json!({ "delivery": null })).await;
    let plain = effective("plain", &|delivery| delivery["retry"]["backoff"]["type"] == "Schedule").await;
    assert_eq!((&plain["timeout"], &plain["retry"]["maxAttempts"]), (&json!("5s"), &json!(10)));
}
