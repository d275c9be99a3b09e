//! Under a steady load: each event once, and one bad endpoint takes nothing from the others.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use hookwright_e2e::{Answer, Options, World, wait_for};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::shop::{SOON, Shop, alone};

#[tokio::test]
async fn a_thousand_events_are_delivered_exactly_once_by_two_dispatchers() {
    let _machine = alone().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    let events: Vec<_> = (0..1000).map(|n| shop.event("order.created", format!("{n}"))).collect();
    for chunk in events.chunks(100) {
        join_all(chunk.iter().map(|event| shop.publish(event))).await;
    }
    shop.requests("all", 1000).await;
    shop.status("all", "all counted", |status| status["delivery"]["delivered"] == 1000).await;
    let mut bodies = HashMap::new();
    for request in shop.receiver.requests("/all") {
        *bodies.entry(request.body.clone()).or_insert(0) += 1;
    }
    assert_eq!((bodies.len(), bodies.values().max()), (1000, Some(&1)));
    let shares = join_all(world.dispatchers.iter().map(events_read)).await;
    assert!(shares.iter().all(|share| *share > 0) && shares.iter().sum::<u64>() == 1000, "{shares:?}");
}

async fn events_read(dispatcher: &hookwright_e2e::Dispatcher) -> u64 {
    let metrics = dispatcher.metrics().await.unwrap();
    let line = metrics.lines().find(|line| line.starts_with("hookwright_dispatcher_events_total")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

const HEALTHY: usize = 9;
/// As many as would take all of a dispatcher's attempts, did each keep those of a quick endpoint.
const MANY: usize = 12;
const RATE: u64 = 100;
const SECONDS: u64 = 15;
/// Below this, a p99 on a shared two-core machine is noise.
const NOISE: Duration = Duration::from_millis(5);
/// Were they in each other's way, it would be for seconds. What they park is work, too.
const STALL: Duration = Duration::from_millis(500);

#[tokio::test]
async fn hanging_endpoints_take_nothing_from_the_others() {
    let _machine = alone().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let without = healthy_p99(&world, 0).await;
    for (hanging, most) in [(1, (without * 2).max(NOISE)), (MANY, STALL)] {
        let with = healthy_p99(&world, hanging).await;
        println!("p99 at the healthy endpoints: {without:?} without, {with:?} with {hanging} that hang");
        assert!(with <= most, "{with:?} with {hanging} that hang, {without:?} without");
    }
}

/// The p99 of (received - published) at the healthy endpoints, beside so many that hang.
async fn healthy_p99(world: &World, hanging: usize) -> Duration {
    let shop = Shop::open(world, json!({})).await;
    for n in 0..HEALTHY + hanging {
        if n >= HEALTHY {
            shop.receiver.answer(&format!("/to-{n}"), Answer::hang());
        }
        shop.subscribe(&format!("to-{n}"), &[">"], json!({})).await;
    }
    let mut tick = interval(Duration::from_micros(1_000_000 / RATE));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let total = usize::try_from(RATE * SECONDS).unwrap();
    for _ in 0..total {
        tick.tick().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        shop.publish(&shop.event("tick", now.to_string())).await;
    }
    let mut latencies = Vec::new();
    for n in 0..HEALTHY {
        let path = format!("/to-{n}");
        shop.receiver.wait_count(&path, total, SOON).await.unwrap();
        for request in shop.receiver.requests(&path) {
            let published: u64 = std::str::from_utf8(&request.body).unwrap().parse().unwrap();
            let published = UNIX_EPOCH + Duration::from_nanos(published);
            latencies.push(request.time.duration_since(published).unwrap_or_default());
        }
    }
    assert_eq!(latencies.len(), total * HEALTHY, "exactly once");
    if hanging > 0 {
        // What a hanging endpoint could not take waits, and does not fill the dispatchers.
        wait_for("the dispatchers to let go of all events", SOON, async || {
            for dispatcher in &world.dispatchers {
                let metrics = dispatcher.metrics().await?;
                let held =
                    metrics.lines().find(|line| line.starts_with("hookwright_dispatcher_held_events")).unwrap_or("");
                anyhow::ensure!(held.ends_with(" 0"), "{held}");
            }
            Ok(())
        })
        .await
        .unwrap();
    }
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}
