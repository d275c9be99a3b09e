//! Subscriptions that are behind: their events stay in the stream until a reader of their own delivers them.

use std::collections::HashMap;
use std::time::Duration;

use hookwright_core::nats::names::{CURSORS_BUCKET, POSITIONS_BUCKET};
use hookwright_core::position::{Position, Range, Reason};
use hookwright_core::record::{decode, encode};
use hookwright_e2e::{User, wait_for};
use jiff::Timestamp;
use serde_json::json;

use crate::shop::{SOON, Shop, shared};

/// How often each delivery succeeded at a path.
fn deliveries(shop: &Shop<'_>, path: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for request in shop.receiver.requests(path).iter().filter(|request| request.succeeded()) {
        *counts.entry(request.webhook_id().to_owned()).or_default() += 1;
    }
    counts
}

async fn position(shop: &Shop<'_>, uid: &str) -> Option<Position> {
    let jetstream = shop.world.nats.jetstream(User::Operator).await.unwrap();
    let bucket = jetstream.get_key_value(POSITIONS_BUCKET).await.unwrap();
    bucket.get(uid).await.unwrap().map(|value| decode(&value).unwrap())
}

async fn wait_live(shop: &Shop<'_>, uid: &str) {
    wait_for("the Subscription to be live", SOON * 2, async || {
        let position = position(shop, uid).await;
        anyhow::ensure!(position.as_ref().is_some_and(|position| position.ranges.is_empty()), "{position:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_a_position_covers_is_delivered_from_the_stream_and_then_the_subscription_is_live() {
    let (shop, _machine) = shared().await;
    for n in 0..300 {
        shop.publish(&shop.event("order.created", format!("{n}"))).await;
    }
    let uid = shop.subscribe("late", &["order.*"], json!({})).await;
    let jetstream = shop.world.nats.jetstream(User::Operator).await.unwrap();
    let mut stream = jetstream.get_stream(format!("{}_orders", shop.namespace)).await.unwrap();
    let created = stream.info().await.unwrap().created;
    let created = Timestamp::from_nanosecond(created.unix_timestamp_nanos()).unwrap();
    let behind = Position {
        ranges: vec![Range { from: 101, to: None, until: None, begun: false }],
        since: Some(Timestamp::now()),
        reason: Some(Reason::StartFrom),
        ..Position::live(created)
    };
    let bucket = jetstream.get_key_value(POSITIONS_BUCKET).await.unwrap();
    bucket.create(&uid, encode(&behind).unwrap().into()).await.unwrap();
    shop.requests("late", 200).await;
    for n in 0..50 {
        shop.publish(&shop.event("order.created", format!("late {n}"))).await;
    }
    shop.requests("late", 250).await;
    wait_live(&shop, &uid).await;
    for n in 0..50 {
        shop.publish(&shop.event("order.created", format!("live {n}"))).await;
    }
    shop.requests("late", 300).await;
    let counts = deliveries(&shop, "/late");
    assert_eq!((counts.len(), counts.values().max()), (300, Some(&1)));
    let cursors = jetstream.get_key_value(CURSORS_BUCKET).await.unwrap();
    println!("{:?}", cursors.get(&uid).await.unwrap());
    let _ = Duration::ZERO;
}
