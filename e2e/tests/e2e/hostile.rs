//! Objects that are nested too deep to be read as JSON. Everybody who may write an object can write such a one.

mod records;

use hookwright_e2e::{ControlPlane, Options, World, wait_for};
use serde_json::{Value, json};

use crate::shop::{KEY, SOON, Shop, TIMEOUT, beside};

const API: &str = "hookwright.dev/v1alpha1";

/// An object that is nested so deep, in fields whose names begin with `f:` as those of managedFields do.
fn deep() -> Value {
    (0..200).fold(json!({}), |inner, _| json!({ "f:a": inner }))
}

/// Nests the managedFields of the object at this path so deep. A client may write them as it likes, but only in a PUT. From
/// then on the client of the tests can't read the object, but kubectl can.
pub(crate) async fn nest(plane: &ControlPlane, path: &str) {
    let client = plane.client().await.unwrap();
    wait_for(&format!("{path} to be written"), SOON, async || {
        let mut object: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
        let entry = json!({
            "manager": "hostile", "operation": "Update", "apiVersion": object["apiVersion"], "fieldsType": "FieldsV1",
            "fieldsV1": deep(),
        });
        object["metadata"]["managedFields"] = json!([entry]);
        let request = http::Request::put(path).header("content-type", "application/json");
        client.request_text(request.body(object.to_string().into_bytes())?).await?;
        Ok(())
    })
    .await
    .unwrap();
}

/// A Secret and a Service, to which the Subscription `refers` refers.
async fn referred_to(shop: &Shop<'_>) -> Value {
    let metadata = |name: &str| json!({ "name": name, "namespace": shop.namespace });
    let mut secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata("mine") });
    secret["metadata"]["labels"] = json!({ "hookwright.dev/use": "signing" });
    secret["stringData"] = json!({ "secret": KEY });
    let spec = json!({ "selector": { "app": "crm" }, "ports": [{ "port": 8080 }] });
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata("crm"), "spec": spec });
    for object in [secret, service] {
        shop.world.control_plane.apply_json(&object).await.unwrap();
    }
    json!({
        "signing": { "keys": [{ "secretKeyRef": { "name": "mine", "key": "secret" } }] },
        "endpoint": { "url": null, "serviceRef": { "name": "crm", "port": 8080 } },
    })
}

#[tokio::test]
async fn what_is_nested_too_deep_stops_nothing_else() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let plane = &world.control_plane;
    let schema = json!({
        "apiVersion": API, "kind": "EventSchema",
        "metadata": { "name": "deep", "namespace": shop.namespace },
        "spec": {
            "producerRef": { "name": "orders" }, "type": "a", "versions": [{ "version": "1", "jsonSchema": deep() }],
        },
    });
    plane.kubectl_stdin(&["apply", "-f", "-"], &schema.to_string()).await.unwrap();
    shop.subscribe("managed", &[">"], json!({})).await;
    let refers = referred_to(&shop).await;
    let namespace = format!("/api/v1/namespaces/{}", shop.namespace);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for path in [
        format!("/apis/{API}/namespaces/{}/subscriptions/managed", shop.namespace),
        format!("/apis/{API}/namespaces/{}/producers/orders", shop.namespace),
        format!("{namespace}/secrets/mine"),
        format!("{namespace}/services/crm"),
        namespace.clone(),
        "/api/v1/namespaces/kube-system".to_owned(),
        format!("{definitions}/eventschemas.hookwright.dev"),
    ] {
        nest(plane, &path).await;
    }
    let schema_is_refused = async || {
        wait_for("the schema to be refused", SOON, async || {
            let message = r#"jsonpath={.status.conditions[?(@.type=="Accepted")].message}"#;
            let said = plane.kubectl(&["get", "hschema", "deep", "-n", &shop.namespace, "-o", message]).await?;
            anyhow::ensure!(said.contains("nested too deep"), "{said}");
            Ok(())
        })
        .await
        .unwrap();
    };
    schema_is_refused().await;

    world.operator.kill9().unwrap();
    world.operator.restart().unwrap();
    world.operator.wait_ready(SOON).await.unwrap();
    shop.subscribe("refers", &["b"], refers).await;
    shop.subscribe("later", &[">"], json!({})).await;
    plane.kubectl(&["annotate", "eventschema", "deep", "-n", &shop.namespace, "again=1"]).await.unwrap();
    schema_is_refused().await;
    shop.publish(&shop.event("a", "{}")).await;
    shop.requests("managed", 1).await;
    shop.requests("later", 1).await;
    plane.kubectl(&["delete", "namespace", &shop.namespace, TIMEOUT]).await.unwrap();
    // Other worlds use the control plane, too.
    let flat = r#"[{ "op": "replace", "path": "/metadata/managedFields", "value": [{}] }]"#;
    for object in ["namespace/kube-system", "customresourcedefinition/eventschemas.hookwright.dev"] {
        plane.kubectl(&["patch", object, "--type=json", "-p", flat]).await.unwrap();
    }
    let logs = world.operator.logs();
    assert!(!logs.contains("f:a") && !logs.contains("eventTypes"), "{logs}");
}
