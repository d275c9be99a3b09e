//! Objects that are nested too deep to be read as JSON. Everybody who may write an object can write such a one.

use hookwright_e2e::{Options, World, wait_for};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, beside};

/// An object that is nested so deep, in fields whose names begin with `f:` as those of managedFields do.
fn deep() -> Value {
    (0..200).fold(json!({}), |inner, _| json!({ "f:a": inner }))
}

#[tokio::test]
async fn what_is_nested_too_deep_stops_nothing_else() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let plane = &world.control_plane;
    let api = "hookwright.dev/v1alpha1";
    let schema = json!({
        "apiVersion": api, "kind": "EventSchema",
        "metadata": { "name": "deep", "namespace": shop.namespace },
        "spec": {
            "producerRef": { "name": "orders" }, "type": "a", "versions": [{ "version": "1", "jsonSchema": deep() }],
        },
    });
    plane.kubectl_stdin(&["apply", "-f", "-"], &schema.to_string()).await.unwrap();
    shop.subscribe("managed", &[">"], json!({})).await;
    // A client may write managedFields as it likes, but only in a PUT.
    for (plural, name) in [("subscriptions", "managed"), ("producers", "orders")] {
        wait_for("the object to be written", SOON, async || {
            let mut object = plane.get(&shop.namespace, plural, name).await?;
            let entry = json!({
                "manager": "hostile", "operation": "Update", "apiVersion": api, "fieldsType": "FieldsV1", "fieldsV1": deep(),
            });
            object["metadata"]["managedFields"] = json!([entry]);
            let path = format!("/apis/{api}/namespaces/{}/{plural}/{name}", shop.namespace);
            let request = http::Request::put(path).header("content-type", "application/json");
            plane.client().await?.request_text(request.body(object.to_string().into_bytes())?).await?;
            Ok(())
        })
        .await
        .unwrap();
    }
    // The client of the tests can't read these objects, but kubectl can.
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
    shop.subscribe("later", &[">"], json!({})).await;
    plane.kubectl(&["annotate", "eventschema", "deep", "-n", &shop.namespace, "again=1"]).await.unwrap();
    schema_is_refused().await;
    shop.publish(&shop.event("a", "{}")).await;
    shop.requests("managed", 1).await;
    shop.requests("later", 1).await;
    plane.kubectl(&["delete", "namespace", &shop.namespace, crate::shop::TIMEOUT]).await.unwrap();
    let logs = world.operator.logs();
    assert!(!logs.contains("f:a") && !logs.contains("eventTypes"), "{logs}");
}
