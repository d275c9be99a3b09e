//! What the operator has a right to, and loses. What is in place goes on; what needs a Secret that was not read waits for the
//! right to read it; what a Producer may no longer use stops.

use std::collections::HashSet;

use hookwright_e2e::{ControlPlane, Options, World, wait_for};
use serde_json::{Value, json};

use super::stops::{behind, header};
use super::{KEY_A, key, secret};
use crate::faults::all_received;
use crate::sharing::edit_producer;
use crate::shop::{SOON, Shop, all_loaded, beside, condition};

const AS_OPERATOR: &str = "--as=system:serviceaccount:hookwright-system:hookwright-operator";

/// Takes the right to read Secrets from the operator, or gives it back.
async fn may_read_secrets(plane: &ControlPlane, may: bool) {
    let role = plane.kubectl(&["get", "clusterrole", "hookwright-operator", "-o", "json"]).await.unwrap();
    let mut role: Value = serde_json::from_str(&role).unwrap();
    let rules = role["rules"].as_array_mut().unwrap();
    let rule = rules.iter_mut().find(|rule| rule["resources"] == json!(["secrets"])).unwrap();
    rule["verbs"] = if may { json!(["get", "create", "delete"]) } else { json!(["create", "delete"]) };
    plane.kubectl_stdin(&["replace", "-f", "-"], &role.to_string()).await.unwrap();
    wait_for("the API server to see it", SOON, async || {
        let can = plane.kubectl(&["auth", "can-i", "get", "secrets", "-A", AS_OPERATOR]).await;
        anyhow::ensure!(can.is_ok() == may, "{can:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Publishes an event with this body to the shop, and waits until `steady` has had it: what has not arrived at others by
/// then was not sent.
async fn fence(shop: &Shop<'_>, body: &str) {
    let event = shop.event("order.created", body).message_id(body);
    shop.publisher.publish_through_faults(&event, SOON).await.unwrap();
    all_received(shop, "steady", &HashSet::from([body.to_owned()])).await;
}

/// Starts the operator again, with this over its settings.
async fn restart(world: &World, settings: Value) {
    world.operator.terminate().await.unwrap();
    world.operator.configure(&settings).unwrap();
    world.operator.restart().unwrap();
    world.operator.wait_ready(SOON).await.unwrap();
}

#[tokio::test]
async fn only_what_needs_a_secret_that_was_not_read_waits_for_the_right_to_read_it() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let (shop, plane) = (Shop::open(&world, json!({})).await, &world.control_plane);
    for (name, label) in [("mine", "signing"), ("more", "endpoint")] {
        plane.apply_json(&secret(&shop.namespace, name, label, json!({ "secret": KEY_A }))).await.unwrap();
    }
    let keys = json!({ "signing": { "keys": [key("mine")] } });
    for name in ["steady", "edited"] {
        shop.subscribe(name, &[">"], keys.clone()).await;
    }
    shop.subscribe("own", &[">"], json!({})).await;
    fence(&shop, "1").await;
    shop.requests("edited", 1).await;
    may_read_secrets(plane, false).await;

    // Edits, a new connection to NATS and writes of status read no Secret that is known.
    let mut edited = keys.clone();
    edited["delivery"] = json!({ "timeout": "5s" });
    shop.subscribe("edited", &[">"], edited.clone()).await;
    shop.subscribe("own", &[">"], json!({ "delivery": { "timeout": "5s" } })).await;
    edit_producer(&shop, json!({ "delivery": { "timeout": "7s" } })).await;
    shop.status("steady", "inheriting", |status| status["effectiveDelivery"]["timeout"] == "7s").await;
    world.nats.restart().await.unwrap();
    edited["delivery"]["timeout"] = json!("6s");
    shop.subscribe("edited", &[">"], edited).await;
    fence(&shop, "2").await;
    shop.status("steady", "counted", |status| status["delivery"]["delivered"].as_i64() >= Some(2)).await;

    // An edit that names another one stops the former destination.
    let mut moved = keys;
    moved["endpoint"] = json!({ "url": shop.receiver.url("/there"), "headers": header("more") });
    plane.apply_json(&shop.subscription("edited", &[">"], moved)).await.unwrap();
    let stopped = |status: &Value| {
        let message = condition(status, "ResolvedRefs")["message"].as_str().unwrap_or_default();
        message.contains("can't read the Secret more") && condition(status, "Delivering")["reason"] == "Refused"
    };
    let status = shop.status("edited", "stopped", stopped).await;
    assert_ne!(condition(&status, "Ready")["status"], "True");
    all_loaded(&world).await;
    let before = shop.receiver.count("/edited");
    fence(&shop, "3").await;
    behind(&shop, "edited").await;

    // What is in place stays so, also for an operator that knows no Secret yet.
    restart(&world, json!({})).await;
    fence(&shop, "4").await;
    assert_eq!((shop.receiver.count("/edited"), shop.receiver.count("/there")), (before, 0));
    may_read_secrets(plane, true).await;
    let waited = ["3", "4"].map(str::to_owned);
    all_received(&shop, "there", &HashSet::from(waited)).await;
    assert_eq!(shop.receiver.count("/edited"), before);
}

#[tokio::test]
async fn a_producer_that_loses_its_subjects_stops_and_goes_on_once_it_may_use_them_again() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let (shop, losing) = (Shop::open(&world, json!({})).await, Shop::open(&world, json!({})).await);
    shop.subscribe("steady", &[">"], json!({})).await;
    losing.subscribe("all", &[">"], json!({})).await;
    losing.publish(&losing.event("order.created", "before")).await;
    losing.requests("all", 1).await;

    let namespace = &losing.namespace;
    let elsewhere = json!({ "subjects": ["elsewhere.>"], "streams": [format!("{namespace}_orders")] });
    restart(&world, json!({ "tenancy": { namespace: elsewhere } })).await;
    let stopped = |status: &Value| {
        condition(status, "ResolvedRefs")["reason"] == "ProducerNotReady"
            && condition(status, "Delivering")["reason"] == "Refused"
    };
    losing.status("all", "stopped", stopped).await;
    let producer = world.control_plane.get(namespace, "producers", "orders").await.unwrap();
    assert_eq!(condition(&producer["status"], "Accepted")["reason"], "SubjectNotAllowed");
    all_loaded(&world).await;
    losing.publish(&losing.event("order.created", "after")).await;
    fence(&shop, "after").await;
    assert_eq!(losing.receiver.count("/all"), 1);

    restart(&world, json!({ "tenancy": null })).await;
    all_received(&losing, "all", &HashSet::from(["after".to_owned()])).await;
}
