//! Objects that are nested too deep to be read as JSON. Everybody who may write an object can write such a one.

use hookwright_e2e::{Options, World};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, beside, condition};

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
    plane.apply_json(&schema).await.unwrap();
    shop.subscribe("managed", &[">"], json!({})).await;
    // A client may write managedFields as it likes, but only in a PUT.
    for (plural, name) in [("subscriptions", "managed"), ("producers", "orders")] {
        let mut object = plane.get(&shop.namespace, plural, name).await.unwrap();
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("resourceVersion");
        metadata.insert(
            "managedFields".to_owned(),
            json!([{ "manager": "hostile", "operation": "Update", "apiVersion": api, "fieldsType": "FieldsV1", "fieldsV1": deep() }]),
        );
        let path = format!("/apis/{api}/namespaces/{}/{plural}/{name}", shop.namespace);
        let request = http::Request::put(path).header("content-type", "application/json");
        let request = request.body(object.to_string().into_bytes()).unwrap();
        plane.client().await.unwrap().request_text(request).await.unwrap();
    }
    let schema_is_refused = async || {
        let refused = |object: &Value| condition(&object["status"], "Accepted")["status"] == "False";
        let object = plane.wait_until(&shop.namespace, "eventschemas", "deep", "refused", SOON, refused).await.unwrap();
        let message = condition(&object["status"], "Accepted")["message"].as_str().unwrap().to_owned();
        assert!(message.contains("nested too deep"), "{message}");
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
