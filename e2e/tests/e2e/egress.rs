//! The egress guard, from the outside. `dispatcher/src/http/sender/tests.rs` has names that resolve to forbidden addresses.

mod proxy;

use anyhow::ensure;
use hookwright_e2e::{Component, Options, Receiver, World, wait_for};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, beside, condition, metric, shared};

/// 0.0.0.0 is this machine for who dials it, and not among the allowed addresses (127.0.0.0/8).
#[tokio::test]
async fn nothing_is_sent_to_a_forbidden_address_and_what_waited_goes_out_once_the_url_is_right() {
    let (shop, _machine) = shared().await;
    let port = shop.receiver.address().port();
    shop.subscribe("blocked", &[">"], json!({})).await;
    let url = format!("http://0.0.0.0:{port}/blocked");
    let forbidden = shop.subscription("blocked", &[">"], json!({ "endpoint": { "url": url } }));
    shop.world.control_plane.apply_json(&forbidden).await.unwrap();
    let refused = |status: &Value| {
        condition(status, "Accepted")["reason"] == "EndpointNotAllowed"
            && condition(status, "Delivering")["reason"] == "Refused"
    };
    shop.status("blocked", "refused", refused).await;
    shop.publish(&shop.event("order.created", "{}")).await;
    let waits = |status: &Value| status["delivery"]["behind"]["reason"] == "Refused";
    let status = shop.status("blocked", "behind", waits).await;
    assert_eq!((shop.receiver.connections(), &status["delivery"]["deadLettered"]), (0, &json!(0)));
    shop.subscribe("blocked", &[">"], json!({})).await;
    shop.requests("blocked", 1).await;
}

/// Waits until both binaries say whether the egress file can be used.
async fn unusable(world: &World, want: u64) {
    let components: [&Component; 2] = [&world.operator, &world.dispatchers[0]];
    wait_for("the metric of the egress file", SOON, async || {
        for component in components {
            let unusable = metric(&component.metrics().await?, "egress_file_unusable");
            ensure!(unusable == want, "{unusable}");
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// Both binaries go by the file that they have now: a dispatcher holds back without the operator, and the operator judges
/// anew without an edit.
#[tokio::test]
async fn rules_are_read_again() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("billing", &[">"], json!({})).await;
    shop.publish(&shop.event("order.created", "1")).await;
    shop.requests("billing", 1).await;
    let connections = shop.receiver.connections();

    world.operator.freeze().unwrap();
    world.change_egress(&json!({ "allowedPorts": [443] })).unwrap();
    wait_for("the dispatcher to have read it", SOON, async || {
        let logs = world.dispatchers[0].logs();
        ensure!(logs.contains("the endpoint is blocked"), "{logs}");
        Ok(())
    })
    .await
    .unwrap();
    shop.publish(&shop.event("order.created", "2")).await;
    shop.all_acked(SOON).await;
    world.operator.thaw().unwrap();
    let refused = |status: &Value| {
        condition(status, "Accepted")["reason"] == "EndpointNotAllowed"
            && condition(status, "Delivering")["reason"] == "Refused"
            && status["delivery"]["behind"]["reason"] == "Refused"
    };
    let status = shop.status("billing", "refused", refused).await;
    assert_eq!((shop.receiver.count("/billing"), &status["delivery"]["deadLettered"]), (1, &json!(0)));

    world.write_egress("allowedPorts: [").unwrap();
    unusable(&world, 1).await;
    assert_eq!(shop.receiver.count("/billing"), 1, "the former rules stay in force");
    let rules = json!({ "allowedCIDRs": ["127.0.0.0/8"], "allowedPorts": ["1-65535"], "plainHttp": true });
    world.write_egress(&rules.to_string()).unwrap();
    shop.requests("billing", 2).await;
    assert!(shop.receiver.connections() > connections, "no connection is left of the time before");
    world.wait_ready(&shop.namespace, "subscriptions", "billing").await.unwrap();
    unusable(&world, 0).await;
}

/// A Service of another namespace, from its first form, which can't be used, to the delivery, to the end of the grant, and
/// under another address. The API server of the tests gives Services addresses of loopback.
#[tokio::test]
async fn a_service_is_sent_to_as_long_as_it_lets_the_namespace_in() {
    let (shop, _machine) = shared().await;
    let (plane, other) = (&shop.world.control_plane, shop.world.namespace("service").await.unwrap());
    let service = |spec: Value| {
        let metadata = json!({ "name": "crm", "namespace": other });
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec })
    };
    let spec = json!({ "selector": { "app": "crm" }, "ports": [{ "port": 1 }] });
    plane.apply_json(&service(spec)).await.unwrap();
    let address = async || {
        let get = ["get", "service", "crm", "-n", &other, "-o", "jsonpath={.spec.clusterIP}"];
        plane.kubectl(&get).await.unwrap().trim().to_owned()
    };
    let receiver = Receiver::listen(&format!("{}:0", address().await)).await.unwrap();
    let port = receiver.address().port();
    let reference = json!({ "name": "crm", "namespace": other, "port": port, "path": "/hooks" });
    let to_service = json!({ "endpoint": { "url": null, "serviceRef": reference } });
    plane.apply_json(&shop.subscription("crm", &[">"], to_service)).await.unwrap();
    let refused = |reason: &'static str| move |status: &Value| condition(status, "ResolvedRefs")["reason"] == reason;
    shop.status("crm", "shut out", refused("RefNotPermitted")).await;

    let annotate = async |value: &str| {
        let annotation = format!("hookwright.dev/allowed-namespaces{value}");
        plane.kubectl(&["annotate", "--overwrite", "service", "crm", "-n", &other, &annotation]).await.unwrap();
    };
    annotate(&format!("=elsewhere,{}", shop.namespace)).await;
    shop.status("crm", "without its port", refused("ServiceUnsupported")).await;
    let ports = json!({ "selector": { "app": "crm" }, "ports": [{ "port": port }] });
    plane.apply_json(&service(ports.clone())).await.unwrap();
    let status = shop.world.wait_ready(&shop.namespace, "subscriptions", "crm").await.unwrap()["status"].clone();
    assert_eq!(status["endpointHost"], format!("crm.{other}.svc"));
    shop.publish(&shop.event("order.created", "{}")).await;
    let requests = receiver.wait_count("/hooks", 1, SOON).await.unwrap();
    assert_eq!(requests[0].header("host"), format!("crm.{other}.svc:{port}"));

    annotate("-").await;
    let stopped =
        |status: &Value| refused("RefNotPermitted")(status) && condition(status, "Delivering")["reason"] == "Refused";
    shop.status("crm", "shut out again", stopped).await;

    let anew = async |spec: Value| {
        plane.kubectl(&["delete", "service", "crm", "-n", &other]).await.unwrap();
        plane.apply_json(&service(spec)).await.unwrap();
        annotate(&format!("={}", shop.namespace)).await;
    };
    anew(ports.clone()).await;
    let moved = Receiver::listen(&format!("{}:{port}", address().await)).await.unwrap();
    shop.world.wait_ready(&shop.namespace, "subscriptions", "crm").await.unwrap();
    shop.publish(&shop.event("order.created", "{}")).await;
    moved.wait_count("/hooks", 1, SOON).await.unwrap();
    assert_eq!(receiver.count("/hooks"), 1);
    let mut headless = ports;
    headless["clusterIP"] = json!("None");
    anew(headless).await;
    shop.status("crm", "headless", refused("ServiceUnsupported")).await;
}
