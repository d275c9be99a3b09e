//! Status that can be trusted.

mod counts;
mod scale;

use std::process::Stdio;
use std::time::{Duration, Instant};

use hookwright_e2e::{Answer, Options, Tools, World, is_long};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::shop::{KEY, SOON, Shop, TIMEOUT, beside, condition, fixed, schedule, shared};

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

fn activities(status: &Value) -> Vec<&str> {
    let entries = status["recentActivity"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().map(|entry| entry["activity"].as_str().unwrap()).collect()
}

/// How soon a turn is seen, `scale` judges in its long form.
#[tokio::test]
async fn an_endpoint_turns_unhealthy_after_three_failures_and_healthy_in_thirty_seconds() {
    let (shop, _machine) = shared().await;
    let done = CancellationToken::new();
    tokio::join!(messages_are_of_late(&shop, &done), async {
        let _done = done.clone().drop_guard();
        an_endpoint_turns(&shop).await;
    });
}

/// MESSAGES of a Producer follows what is published. That it is at most 15 s old follows from how often the operator looks
/// and writes, which its tests add up. The long form sees it, too, where it may be twice as old for a busy machine.
async fn messages_are_of_late(shop: &Shop<'_>, done: &CancellationToken) {
    let (mut stored, mut oldest, start) = (Vec::new(), Duration::ZERO, Instant::now());
    let mut ticks = interval(Duration::from_millis(500));
    while !done.is_cancelled() {
        ticks.tick().await;
        shop.publish(&shop.event("tick", "{}")).await;
        stored.push(Instant::now());
        let looked = Instant::now();
        let producer = shop.world.control_plane.get(&shop.namespace, "producers", "orders").await.unwrap();
        let told = producer["status"]["stream"]["messages"].as_u64().unwrap_or_default() as usize;
        // Other events are counted, too.
        let age = stored.get(told).map_or(Duration::ZERO, |first| looked.duration_since(*first));
        oldest = oldest.max(age);
        assert!(!is_long() || oldest < Duration::from_secs(30), "{told} told of {}, {age:?} old", stored.len());
    }
    assert!(start.elapsed() > Duration::from_secs(30), "it was watched for long enough");
    println!("MESSAGES was {oldest:?} old at most");
    messages_are_at_least(shop, stored.len()).await;
}

async fn messages_are_at_least(shop: &Shop<'_>, least: usize) {
    let all = |producer: &Value| producer["status"]["stream"]["messages"].as_u64() >= Some(least as u64);
    let plane = &shop.world.control_plane;
    plane.wait_until(&shop.namespace, "producers", "orders", "all of MESSAGES", SOON, all).await.unwrap();
}

/// A Producer whose latest spec is refused goes on by the one before, and the numbers of its stream with it.
#[tokio::test]
async fn messages_of_a_refused_producer_go_on() {
    let (shop, _machine) = shared().await;
    let plane = &shop.world.control_plane;
    let beyond = json!({ "spec": { "stream": { "maxAge": "9000h" } } }).to_string();
    plane.kubectl(&["patch", "hprod", "orders", "-n", &shop.namespace, "--type=merge", "-p", &beyond]).await.unwrap();
    let refused = |object: &Value| condition(&object["status"], "Accepted")["reason"] == "QuotaExceeded";
    plane.wait_until(&shop.namespace, "producers", "orders", "its refusal", SOON, refused).await.unwrap();
    for n in 0..3 {
        shop.publish(&shop.event("a", format!("{n}"))).await;
    }
    messages_are_at_least(&shop, 3).await;
}

async fn an_endpoint_turns(shop: &Shop<'_>) {
    shop.subscribe("sick", &["a", "b"], fixed("4s")).await;
    shop.subscribe("waits", &["a", "b"], fixed("1h")).await;
    shop.publish(&shop.event("a", "{}")).await;
    for name in ["sick", "waits"] {
        let status = shop.status(name, "Healthy", |status| status["health"] == "Healthy").await;
        assert_eq!(activities(&status), ["Healthy"]);
        shop.receiver.answer(&format!("/{name}"), Answer::status(500).body("a stack trace"));
    }
    let published = Timestamp::now();
    shop.publish(&shop.event("b", "{}")).await;
    let stored = Timestamp::now();
    let waits = |status: &Value| !status["delivery"]["oldestPendingTime"].is_null();
    let status = shop.status("waits", "waiting", waits).await;
    let (oldest, spare) = (time(&status["delivery"]["oldestPendingTime"]), SignedDuration::from_secs(2));
    assert!((published - spare..stored + spare).contains(&oldest), "{oldest} is not {published}");
    assert_eq!(activities(&status), ["Healthy"], "a failure is no turn");

    shop.status("sick", "Unhealthy", |status| status["health"] == "Unhealthy").await;
    let failed = shop.receiver.requests("/sick");
    let failed: Vec<_> = failed.iter().filter(|request| !request.succeeded()).collect();
    assert!(failed.len() >= 3, "{} failures are no turn", failed.len());

    shop.receiver.answer("/sick", Answer::status(200));
    let last_failure = || {
        let requests = shop.receiver.requests("/sick");
        requests.iter().rfind(|request| !request.succeeded()).unwrap().at.elapsed()
    };
    let thirty = Duration::from_millis(29_500);
    let delivered = shop.status("sick", "delivered", |status| status["delivery"]["delivered"] == 2).await;
    let early = last_failure() < thirty;
    assert!(!early || delivered["health"] == "Unhealthy", "one success is no recovery");
    let status = shop.status("sick", "Healthy", |status| status["health"] == "Healthy").await;
    assert!(last_failure() >= thirty, "{:?} after the last failure", last_failure());
    assert_eq!(activities(&status), ["Healthy", "Unhealthy", "Healthy"]);
    assert!(status["delivery"]["oldestPendingTime"].is_null());
    let unhealthy = &status["recentActivity"][1];
    assert_eq!((&unhealthy["outcome"], &unhealthy["httpStatus"]), (&json!("Rejected"), &json!(500)));
    assert!(!status.to_string().contains("stack trace"));
}

#[tokio::test]
async fn recent_activity_has_the_last_ten_dead_letters() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/down", Answer::status(503));
    shop.subscribe("down", &[">"], schedule(&["1s"])).await;
    for n in 0..12 {
        shop.publish(&shop.event("a", format!("{n}"))).await;
    }
    let status = shop.status("down", "all dead", |status| status["delivery"]["deadLettered"] == 12).await;
    let entries = status["recentActivity"].as_array().unwrap();
    assert_eq!(entries.len(), 10, "{entries:?}");
    // On a busy machine the failures may lie so far apart that the endpoint turns, too.
    let given_up: Vec<_> = entries.iter().filter(|entry| entry["activity"] != "Unhealthy").collect();
    assert!(given_up.len() >= 9, "{entries:?}");
    for entry in given_up {
        assert_eq!((&entry["activity"], &entry["attempt"]), (&json!("DeadLettered"), &json!(2)), "{entry}");
        assert_eq!((&entry["outcome"], &entry["httpStatus"]), (&json!("Rejected"), &json!(503)), "{entry}");
        let fields: Vec<_> = entry.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["activity", "attempt", "httpStatus", "outcome", "time"], "and nothing else");
    }
}

#[tokio::test]
async fn a_gitops_tool_finds_no_drift_after_traffic() {
    let (shop, _machine) = shared().await;
    let object = shop.subscription("kept", &[">"], fixed("1s"));
    let apply = ["apply", "--server-side", "--field-manager=gitops", "-f", "-"];
    let plane = &shop.world.control_plane;
    plane.kubectl_stdin(&apply, &object.to_string()).await.unwrap();
    shop.world.wait_ready(&shop.namespace, "subscriptions", "kept").await.unwrap();
    shop.receiver.fail_first("/kept", 2, Answer::status(500));
    for n in 0..5 {
        shop.publish(&shop.event("a", format!("{n}"))).await;
    }
    shop.status("kept", "delivered", |status| status["delivery"]["delivered"] == 5).await;
    for plural in ["subscriptions", "producers"] {
        let name = if plural == "producers" { "orders" } else { "kept" };
        let found = plane.get(&shop.namespace, plural, name).await.unwrap();
        assert_eq!(found["metadata"]["generation"], 1, "{plural}");
        let fields = ["get", plural, name, "-n", &shop.namespace, "-o", "json", "--show-managed-fields"];
        let found: Value = serde_json::from_str(&plane.kubectl(&fields).await.unwrap()).unwrap();
        let managers = found["metadata"]["managedFields"].as_array().unwrap();
        let ours = managers.iter().filter(|m| m["manager"].as_str().unwrap().starts_with("hookwright"));
        let ours: Vec<_> = ours.collect();
        assert!(!ours.is_empty());
        assert!(ours.iter().all(|m| m["fieldsV1"]["f:spec"].is_null()), "{plural}: {ours:?}");
    }
    // No conflict, no change.
    plane.kubectl_stdin(&apply, &object.to_string()).await.unwrap();
    let found = plane.get(&shop.namespace, "subscriptions", "kept").await.unwrap();
    assert_eq!((&found["metadata"]["generation"], &found["status"]["observedGeneration"]), (&json!(1), &json!(1)));
    let diff = ["diff", "--server-side", "--field-manager=gitops", "-f", "-"];
    let diff = plane.kubectl_stdin(&diff, &object.to_string()).await;
    assert_eq!(diff.unwrap(), "", "kubectl diff exits 1 for a difference");
}

/// What kstatus says of it.
pub(crate) async fn kstatus(tools: &Tools, object: &Value) -> String {
    let mut command = tokio::process::Command::new(tools.tool("kstatus").unwrap());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Has a world of its own: it stops the operator.
#[tokio::test]
async fn kstatus_follows_the_life_of_each_kind() {
    let _machine = beside().await;
    let world =
        World::start(Options { operator: json!({ "secretRefresh": "1s" }), ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let plane = &world.control_plane;
    let says = async |plural: &str, name: &str| {
        kstatus(&world.tools, &plane.get(&shop.namespace, plural, name).await.unwrap()).await
    };
    let until = async |plural: &str, name: &str, condition: &str, status: &str| {
        let holds = |object: &Value| {
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == condition && c["status"] == status)
        };
        plane.wait_until(&shop.namespace, plural, name, condition, SOON, holds).await.unwrap();
    };
    let keys = json!({ "signing": { "keys": [{ "secretKeyRef": { "name": "mine", "key": "secret" } }] } });
    let bad = json!({
        "apiVersion": "hookwright.dev/v1alpha1", "kind": "Producer",
        "metadata": { "name": "refused", "namespace": shop.namespace }, "spec": { "subjects": ["foreign.>"] },
    });
    let schema = |name: &str, kind: &str, json_schema: Value| {
        json!({
            "apiVersion": "hookwright.dev/v1alpha1", "kind": "EventSchema",
            "metadata": { "name": name, "namespace": shop.namespace },
            "spec": {
                "producerRef": { "name": if name == "early" { "late" } else { "orders" } },
                "type": kind,
                "versions": [{ "version": "1.0", "jsonSchema": json_schema }],
            },
        })
    };
    assert_eq!(says("producers", "orders").await, "Current");

    // Before the operator has seen them.
    world.operator.freeze().unwrap();
    plane.apply_json(&shop.subscription("billing", &[">"], keys)).await.unwrap();
    plane.apply_json(&bad).await.unwrap();
    plane.apply_json(&schema("created", "order.created", json!({ "type": "object" }))).await.unwrap();
    plane.apply_json(&schema("broken", "order.broken", json!({ "type": "nothing" }))).await.unwrap();
    plane.apply_json(&schema("early", "order.early", json!({}))).await.unwrap();
    assert_eq!(says("subscriptions", "billing").await, "InProgress");
    assert_eq!(says("producers", "refused").await, "InProgress");
    for name in ["created", "broken", "early"] {
        assert_eq!(says("eventschemas", name).await, "InProgress");
    }
    world.operator.thaw().unwrap();

    until("eventschemas", "created", "Ready", "True").await;
    assert_eq!(says("eventschemas", "created").await, "Current");
    until("eventschemas", "broken", "Stalled", "True").await;
    assert_eq!(says("eventschemas", "broken").await, "Failed");
    until("eventschemas", "early", "ResolvedRefs", "False").await;
    assert_eq!(says("eventschemas", "early").await, "InProgress", "its Producer may come");
    // An edit heals it.
    plane.apply_json(&schema("broken", "order.broken", json!({ "type": "null" }))).await.unwrap();
    until("eventschemas", "broken", "Ready", "True").await;
    assert_eq!(says("eventschemas", "broken").await, "Current");

    until("subscriptions", "billing", "ResolvedRefs", "False").await;
    assert_eq!(says("subscriptions", "billing").await, "InProgress", "its Secret may come");
    until("producers", "refused", "Stalled", "True").await;
    assert_eq!(says("producers", "refused").await, "Failed");

    let secret =
        ["create", "secret", "generic", "mine", "-n", &shop.namespace, &format!("--from-literal=secret={KEY}")];
    plane.kubectl(&secret).await.unwrap();
    plane.kubectl(&["label", "secret", "mine", "-n", &shop.namespace, "hookwright.dev/use=signing"]).await.unwrap();
    until("subscriptions", "billing", "Ready", "True").await;
    assert_eq!(says("subscriptions", "billing").await, "Current");

    // An edit, and a deletion, that the operator has not seen.
    world.operator.freeze().unwrap();
    let timeout = json!([{ "op": "add", "path": "/spec/delivery", "value": { "timeout": "3s" } }]).to_string();
    let edit = ["patch", "hsub", "billing", "-n", &shop.namespace, "--type=json", "-p", &timeout];
    plane.kubectl(&edit).await.unwrap();
    assert_eq!(says("subscriptions", "billing").await, "InProgress");
    plane.apply_json(&schema("created", "order.created", json!({ "type": "array" }))).await.unwrap();
    assert_eq!(says("eventschemas", "created").await, "InProgress");
    for object in ["hsub/billing", "hprod/refused", "hschema/broken"] {
        plane.kubectl(&["delete", object, "-n", &shop.namespace, "--wait=false"]).await.unwrap();
    }
    assert_eq!(says("subscriptions", "billing").await, "Terminating");
    assert_eq!(says("producers", "refused").await, "Terminating");
    assert_eq!(says("eventschemas", "broken").await, "Terminating");
    world.operator.thaw().unwrap();
    for object in ["hsub/billing", "hschema/broken"] {
        plane.kubectl(&["wait", "--for=delete", object, "-n", &shop.namespace, TIMEOUT]).await.unwrap();
    }
    until("eventschemas", "created", "Stalled", "True").await;
    assert_eq!(says("eventschemas", "created").await, "Failed", "what is published can't be edited");
}
