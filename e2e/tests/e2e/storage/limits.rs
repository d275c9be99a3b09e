//! Limits of the account that refuse a Producer's stream or consumer.

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::Config;
use hookwright_e2e::{Answer, User};
use serde_json::{Value, json};

use crate::sharing::refused;
use crate::shop::{SOON, Shop, condition, fixed, metric};

/// In an account with limits, a Producer that is beyond one is told of it, and is served once there is room.
pub(super) async fn have_a_reason(shop: &Shop<'_>) {
    let plane = &shop.world.control_plane;
    let told = |producer: &Value| condition(&producer["status"], "StorageOvercommitted")["status"] == "True";
    let what = "more than the account may keep";
    plane.wait_until(&shop.namespace, "producers", "orders", what, SOON, told).await.unwrap();
    let metrics = shop.world.operator.metrics().await.unwrap();
    assert!(metric(&metrics, "storage_overcommitted_bytes{storage=\"File\"}") > 0, "{metrics}");

    let live = shop.consumer().await.unwrap();
    assert!((1..=1_000).contains(&live.config.max_ack_pending), "{:?}", live.config);
    assert_eq!(live.config.max_batch, 100);
    pulls_are_as_large_as_the_server_allows(shop).await;

    let spec = |name: &str, stream| json!({ "subjects": [format!("{}.{name}.>", shop.namespace)], "stream": stream });
    let refused = async |name: &str, stream| {
        refused(shop.world, &shop.namespace, name, spec(name, stream), "NatsLimitReached").await;
    };
    refused("memory", json!({ "storage": "Memory", "maxBytes": "1Gi" })).await;
    refused("file", json!({ "maxBytes": "1Gi" })).await;

    // NATS counts the consumers of an account for each stream.
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let name = format!("{}_full", shop.namespace);
    let full = Config { name: name.clone(), subjects: vec![format!("{}.full.>", shop.namespace)], ..Config::default() };
    let full = jetstream.create_stream(full).await.unwrap();
    let another = |n: usize| pull::Config { durable_name: Some(format!("c-{n}")), ..pull::Config::default() };
    let mut created = 0;
    while full.create_consumer(another(created)).await.is_ok() {
        created += 1;
        assert!(created <= 100, "there is a limit");
    }
    refused("full", json!({ "name": name, "policy": "Existing" })).await;
    full.delete_consumer("c-0").await.unwrap();
    plane.kubectl(&["annotate", "hprod", "full", "-n", &shop.namespace, "room=again"]).await.unwrap();
    shop.world.wait_ready(&shop.namespace, "producers", "full").await.unwrap();
    plane.kubectl(&["delete", "hprod", "memory", "file", "full", "-n", &shop.namespace]).await.unwrap();
    assert!(jetstream.delete_stream(&name).await.unwrap().success);
}

/// Events and due deliveries come with pulls that the server allows, and its limit is taken for no edit.
async fn pulls_are_as_large_as_the_server_allows(shop: &Shop<'_>) {
    const EVENTS: usize = 300;
    shop.receiver.fail_first("/many", 1, Answer::status(500));
    shop.subscribe("many", &["many"], fixed("1s")).await;
    let events: Vec<_> = (0..EVENTS).map(|n| shop.event("many", format!("{n}"))).collect();
    shop.publish_all(&events).await;
    shop.status("many", "all delivered", |status| status["delivery"]["delivered"] == EVENTS).await;
    assert_eq!(shop.receiver.count("/many"), EVENTS + 1);
    let plane = &shop.world.control_plane;
    plane.kubectl(&["delete", "hsub", "many", "-n", &shop.namespace]).await.unwrap();
    let logs = shop.world.operator.logs();
    assert!(!logs.contains("setting the consumer right"), "the limit is the server's");
}
