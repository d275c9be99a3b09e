//! Dispatchers that start while a replica is behind.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hookwright_core::nats::names::CONFIG_BUCKET;
use hookwright_e2e::{World, by_length, report};
use serde_json::json;

use super::{publisher_beside, rate, world};
use crate::faults::Load;
use crate::shop::{SOON, Shop, beside};

/// How many Subscriptions become Ready while the replica is away.
const FRESH: usize = 20;
/// For how long after the replica's return dispatchers start again and again.
const RESTARTS: Duration = Duration::from_secs(3);

/// Ready promises that each event that is published from then on is delivered, whichever dispatcher takes it, and
/// whatever the replica has of which it reads its config.
#[tokio::test]
async fn what_is_ready_is_served_by_dispatchers_that_start_beside_a_replica_that_was_away() {
    let _machine = beside().await;
    let world = world().await;
    let shop = Shop::open(&world, json!({})).await;
    let key = shop.shared_key().await;
    for round in 0..by_length(1, 5) {
        world.nats.wait_current().await.unwrap();
        let victim = world.nats.follower(&format!("KV_{CONFIG_BUCKET}")).await.unwrap();
        let publisher = publisher_beside(&world.nats, victim).await;
        victim.kill9().unwrap();
        let names: Vec<String> = (0..FRESH).map(|n| format!("fresh-{round}-{n}")).collect();
        join_all(names.iter().map(|name| shop.subscribe(name, &[">"], key.clone()))).await;
        let back = async {
            let (started, ()) = tokio::join!(victim.restart(), restart_dispatchers(&world));
            started.unwrap();
        };
        let load = Load::during(&shop, &publisher, rate(), back).await;
        for name in &names {
            load.all_received(&shop, name).await;
        }
        let events = load.acknowledged.len();
        report(&format!("dispatchers started beside a replica that was behind: {events} events, 0 lost"));
    }
}

/// One after the other, each until it has joined, so that one of them always serves.
async fn restart_dispatchers(world: &World) {
    let (start, mut joins) = (Instant::now(), 0);
    while start.elapsed() < RESTARTS || joins < world.dispatchers.len() {
        let dispatcher = &world.dispatchers[joins % world.dispatchers.len()];
        dispatcher.restart().unwrap();
        dispatcher.wait_ready(SOON).await.unwrap();
        joins += 1;
    }
    report(&format!("{joins} joins within {:?} after the replica's return", start.elapsed()));
}
