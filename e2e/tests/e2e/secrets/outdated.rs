//! Two operators at once, as while one takes the other's place. The one that is out of date, because it was paused or reads
//! Secrets seldom, restores nothing that the other one has replaced.

use hookwright_e2e::{Operator, Options, World, wait_for};
use serde_json::{Value, json};

use super::secret;
use crate::shop::{SOON, Shop, all_loaded, beside};

const OPEN: &str = r#"{"open":1}"#;

/// Publishes an event with a field that may be withheld, and returns the token and the body with which it arrives.
async fn sent(shop: &Shop<'_>) -> (String, String) {
    let before = shop.receiver.count("/one");
    shop.publish(&shop.event("a", r#"{"open":1,"secret":"hush"}"#)).await;
    let requests = shop.requests("one", before + 1).await;
    let last = &requests[requests.len() - 1];
    (last.header("authorization").to_owned(), String::from_utf8_lossy(&last.body).into_owned())
}

async fn patch(shop: &Shop<'_>, object: &str, spec: Value) {
    let patch = json!({ "spec": spec }).to_string();
    let args = ["patch", "-n", &shop.namespace, object, "--type=merge", "-p", &patch];
    shop.world.control_plane.kubectl(&args).await.unwrap();
}

/// Edits the Subscription, and waits until an operator has written that.
async fn edit(shop: &Shop<'_>, timeout: &str) {
    patch(shop, "subscriptions.hookwright.dev/one", json!({ "delivery": { "timeout": timeout } })).await;
    let seen = |object: &Value| object["status"]["observedGeneration"] == object["metadata"]["generation"];
    let plane = &shop.world.control_plane;
    plane.wait_until(&shop.namespace, "subscriptions", "one", "the edit to be seen", SOON, seen).await.unwrap();
    all_loaded(shop.world).await;
}

#[tokio::test]
async fn an_operator_that_is_out_of_date_restores_no_secret_and_no_policy() {
    let _machine = beside().await;
    let seldom = json!({ "secretRefresh": "1h" });
    let world = World::start(Options { operator: seldom, ..Options::default() }).await.unwrap();
    let (shop, plane) = (Shop::open(&world, json!({})).await, &world.control_plane);
    let token = |token: &str| secret(&shop.namespace, "token", "endpoint", json!({ "token": token }));
    plane.apply_json(&token("old")).await.unwrap();
    let reference = json!({ "secretKeyRef": { "name": "token", "key": "token" } });
    let headers = json!([{ "name": "Authorization", "valueFrom": reference }]);
    shop.subscribe("one", &[">"], json!({ "endpoint": { "headers": headers } })).await;
    assert_eq!(sent(&shop).await.0, "old");
    let folder = world.folder().join("other");
    std::fs::create_dir(&folder).unwrap();
    let (kubeconfig, often) = (plane.operator_kubeconfig().await.unwrap(), json!({ "secretRefresh": "1s" }));
    let other = Operator::spawn(&folder, &world.nats, &world.sealing, kubeconfig, &often).unwrap();
    other.wait_ready(SOON).await.unwrap();

    // Only the other one learns of the new token, before it is paused.
    plane.apply_json(&token("new")).await.unwrap();
    let has_arrived = async || {
        let found = sent(&shop).await;
        anyhow::ensure!(found.0 == "new", "{found:?}");
        Ok(())
    };
    wait_for("the new token", SOON, has_arrived).await.unwrap();
    other.freeze().unwrap();
    edit(&shop, "7s").await;
    assert_eq!(sent(&shop).await.0, "new");

    // Only the other one learns of the policy, while the first is paused.
    world.operator.freeze().unwrap();
    other.thaw().unwrap();
    let policies = json!([{ "from": "All", "exclude": ["/secret"] }]);
    patch(&shop, "producers.hookwright.dev/orders", json!({ "payloadPolicies": policies })).await;
    let is_withheld = async || {
        let found = sent(&shop).await;
        anyhow::ensure!(found.1 == OPEN, "{found:?}");
        Ok(())
    };
    wait_for("the policy", SOON, is_withheld).await.unwrap();
    let before = shop.receiver.count("/one");
    other.freeze().unwrap();
    world.operator.thaw().unwrap();
    edit(&shop, "8s").await;
    assert_eq!(sent(&shop).await, ("new".to_owned(), OPEN.to_owned()));
    other.thaw().unwrap();
    edit(&shop, "9s").await;
    assert_eq!(sent(&shop).await, ("new".to_owned(), OPEN.to_owned()));
    let requests = shop.receiver.requests("/one");
    assert!(requests[before..].iter().all(|request| request.body == OPEN), "something was sent that is withheld");
}
