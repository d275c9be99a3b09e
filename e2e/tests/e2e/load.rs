//! Under a steady load: each event once, and one bad endpoint takes nothing from the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use hookwright_e2e::{Answer, Options, Received, World, wait_for};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::shop::{SOON, Shop, alone, metric};

#[tokio::test]
async fn a_thousand_events_are_delivered_exactly_once_by_two_dispatchers() {
    let _machine = alone().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    let events: Vec<_> = (0..1000).map(|n| shop.event("order.created", format!("{n}"))).collect();
    shop.publish_all(&events).await;
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
const SECONDS: u64 = 20;
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
    let total = usize::try_from(RATE * SECONDS).unwrap();
    publish_steadily(&shop, RATE, total).await;
    let mut latencies = Vec::new();
    for n in 0..HEALTHY {
        latencies.extend(latencies_at(&shop, &format!("/to-{n}"), total).await);
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
    p99(latencies)
}

/// Publishes events that bear the time, so many a second.
async fn publish_steadily(shop: &Shop<'_>, rate: u64, total: usize) {
    let mut tick = interval(Duration::from_micros(1_000_000 / rate));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..total {
        tick.tick().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        shop.publish(&shop.event("tick", now.to_string())).await;
    }
}

/// Each (received - published) of such events, once all are there.
async fn latencies_at(shop: &Shop<'_>, path: &str, total: usize) -> Vec<Duration> {
    shop.receiver.wait_count(path, total, SOON * 2).await.unwrap();
    let latency = |request: Arc<Received>| {
        let published: u64 = std::str::from_utf8(&request.body).unwrap().parse().unwrap();
        request.time.duration_since(UNIX_EPOCH + Duration::from_nanos(published)).unwrap_or_default()
    };
    shop.receiver.requests(path).into_iter().map(latency).collect()
}

fn p99(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

/// Endpoints that are slow enough for a backlog to fill what a small dispatcher lets wait.
const SLOW: usize = 12;

#[tokio::test]
async fn a_backlog_behind_slow_endpoints_of_one_producer_takes_nothing_from_another() {
    let _machine = alone().await;
    let world = World::start(Options { dispatcher: json!({ "limits": { "waiting": 512 } }), ..Options::default() })
        .await
        .unwrap();
    let (slow, other) = (Shop::open(&world, json!({})).await, Shop::open(&world, json!({})).await);
    for n in 0..SLOW {
        slow.receiver.answer(&format!("/slow-{n}"), Answer::status(200).after(Duration::from_secs(4)));
        slow.subscribe(&format!("slow-{n}"), &[">"], json!({})).await;
    }
    other.subscribe("other", &[">"], json!({})).await;
    let backlog: Vec<_> = (0..1000).map(|n| slow.event("tick", n.to_string())).collect();
    slow.publish_all(&backlog).await;
    slow.receiver.wait_count("/slow-0", 1, SOON).await.unwrap();
    publish_steadily(&other, RATE, 1000).await;
    let p99 = p99(latencies_at(&other, "/other", 1000).await);
    let metrics = world.dispatchers[0].metrics().await.unwrap();
    println!("p99 beside a backlog: {p99:?}");
    assert!(p99 <= STALL, "{p99:?}");
    let read = metric(&metrics, "hookwright_dispatcher_events_total");
    assert!(read < 2000, "the backlog was there until the end: {read} events were read");
}
