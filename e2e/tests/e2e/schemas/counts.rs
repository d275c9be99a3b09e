//! How many events violated their schema: over dispatchers, and over restarts.

use hookwright_e2e::{Options, World};
use serde_json::{Value, json};

use super::{declare, order, schema, validation};
use crate::shop::{SOON, Shop, beside};

/// Has a world of its own: it restarts everything.
#[tokio::test]
async fn warned_of_violations_are_delivered_and_counted_over_restarts_and_ignored_ones_only_delivered() {
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    declare(&shop, &schema(&shop, "created", "order.created", &[("1.0", order())], json!({}))).await;
    shop.subscribe("all", &[">"], json!({})).await;
    let publish = async |wrong: usize, right: usize| {
        for n in 0..wrong + right {
            let id = if n < wrong { json!("wrong") } else { json!(n) };
            shop.publish(&shop.event("order.created", json!({ "id": id }).to_string())).await;
        }
    };
    let counted = async |violations: u64, schemas: u64| {
        let number = |object: &Value, field: &str| object["status"][field].as_u64().unwrap_or_default();
        let is = |object: &Value| number(object, "violations") >= violations && number(object, "schemas") == schemas;
        let what = format!("at {violations} violations by {schemas} schemas");
        // Each dispatcher writes at most every 10 s.
        let plane = &world.control_plane;
        let found = plane.wait_until(&shop.namespace, "producers", "orders", &what, SOON, is).await.unwrap();
        // One that comes again after a dispatcher was slow counts again.
        let delivered = shop.consumer().await.unwrap().delivered;
        let again = delivered.consumer_sequence - delivered.stream_sequence;
        assert!(number(&found, "violations") <= violations + again, "{} by {what}, {again} again", found["status"]);
    };
    let undeclared = async |n: usize| {
        for _ in 0..n {
            shop.publish(&shop.event("order.undeclared", r#"{"id":1}"#)).await;
        }
    };
    publish(7, 0).await;
    undeclared(7).await;
    shop.requests("all", 14).await;
    validation(&shop, "Warn").await;
    publish(15, 10).await;
    undeclared(5).await;
    shop.requests("all", 44).await;
    counted(20, 1).await;
    // Counted, and not written yet: a dispatcher that ends writes it.
    publish(20, 0).await;
    shop.requests("all", 64).await;
    for dispatcher in &world.dispatchers {
        assert!(dispatcher.terminate().await.unwrap().success());
    }
    counted(40, 1).await;
    for dispatcher in &world.dispatchers {
        dispatcher.restart().unwrap();
    }
    world.operator.terminate().await.unwrap();
    world.operator.restart().unwrap();
    publish(10, 10).await;
    counted(50, 1).await;
    world
        .control_plane
        .kubectl(&["delete", "-n", &shop.namespace, "eventschemas.hookwright.dev/created"])
        .await
        .unwrap();
    counted(50, 0).await;
}
