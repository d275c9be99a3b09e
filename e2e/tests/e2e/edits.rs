//! What others change on consumers of ours.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{FromConsumer, pull};
use hookwright_e2e::{Options, User, World, is_long, report, wait_for};
use serde_json::json;

use crate::faults::all_received;
use crate::shop::{SOON, Shop, beside};

/// Without their bodies events may not be delivered.
#[tokio::test]
async fn a_consumer_that_was_set_to_headers_only_sends_no_empty_webhook_and_is_put_right() {
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    shop.publish(&shop.event("a", "before")).await;
    shop.requests("all", 1).await;
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let stream = jetstream.get_stream(format!("{}_orders", shop.namespace)).await.unwrap();
    let config = pull::Config::try_from_consumer_config(shop.consumer().await.unwrap().config).unwrap();
    stream.update_consumer(pull::Config { headers_only: true, ..config }).await.unwrap();
    let start = Instant::now();
    let bodies: HashSet<String> = (0..50).map(|n| format!("event {n}")).collect();
    for body in &bodies {
        shop.publish(&shop.event("a", body.clone())).await;
    }
    wait_for("the consumer to be put right", SOON, async || {
        let config = shop.consumer().await?.config;
        anyhow::ensure!(!config.headers_only, "headers only");
        Ok(())
    })
    .await
    .unwrap();
    report(&format!("a consumer with headers only was put right after {:?}", start.elapsed()));
    assert!(!is_long() || start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let requests = all_received(&shop, "all", &bodies).await;
    assert_eq!(requests.iter().filter(|request| request.body.is_empty()).count(), 0, "webhooks without a body");
}
