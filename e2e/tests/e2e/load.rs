//! Under a steady load: each event once, and one bad endpoint takes nothing from the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use hookwright_e2e::{Answer, Options, World, wait_for};
use serde_json::json;

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

/// How many events are published before those are waited for that can arrive.
const CHUNK: usize = 20;
const HEALTHY: usize = 9;
/// As many as would take all of a dispatcher's attempts, did each keep those of a quick endpoint.
const HANGING: usize = 12;
/// How long an attempt may take at most.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How fast it is beside endpoints that hang, the bench says (E). Here nothing waits for one of them to time out.
#[tokio::test]
async fn hanging_endpoints_take_nothing_from_the_others() {
    let _machine = alone().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    for n in 0..HANGING {
        shop.receiver.answer(&format!("/hangs-{n}"), Answer::hang());
        shop.subscribe(&format!("hangs-{n}"), &[">"], json!({ "delivery": { "timeout": "30s" } })).await;
    }
    let healthy: Vec<String> = (0..HEALTHY).map(|n| format!("to-{n}")).collect();
    for name in &healthy {
        shop.subscribe(name, &[">"], json!({})).await;
    }
    let total = 10 * CHUNK;
    let (start, mut seen) = (Instant::now(), 0);
    while seen < total {
        seen += CHUNK;
        publish_and_wait(&shop, seen - CHUNK..seen, &healthy).await;
    }
    let took = start.elapsed();
    println!("{total} events at {HEALTHY} endpoints in {took:?}, beside {HANGING} that hang");
    assert!(took < TIMEOUT, "{took:?}: long enough for those that hang to have made room by timing out");
    // What a hanging endpoint could not take waits, and does not fill the dispatchers.
    wait_for("the dispatchers to let go of all events", SOON * 2, async || {
        for dispatcher in &world.dispatchers {
            let held = metric(&dispatcher.metrics().await?, "hookwright_dispatcher_held_events");
            anyhow::ensure!(held == 0, "{held}");
        }
        Ok(())
    })
    .await
    .unwrap();
    for name in &healthy {
        assert_eq!(shop.receiver.count(&format!("/{name}")), total, "{name}: each once");
    }
}

/// Publishes events, and waits until each path `/<name>` has had as many as were published by then.
async fn publish_and_wait(shop: &Shop<'_>, events: std::ops::Range<usize>, names: &[String]) {
    let until = events.end;
    let events: Vec<_> = events.map(|n| shop.event("tick", n.to_string())).collect();
    shop.publish_all(&events).await;
    for name in names {
        shop.requests(name, until).await;
    }
}

/// Endpoints that are slow enough for a backlog to fill what a small dispatcher lets wait.
const SLOW: usize = 12;

#[tokio::test]
async fn a_backlog_behind_slow_endpoints_of_one_producer_takes_nothing_from_another() {
    const BACKLOG: usize = 1000;
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
    let backlog: Vec<_> = (0..BACKLOG).map(|n| slow.event("tick", n.to_string())).collect();
    slow.publish_all(&backlog).await;
    slow.receiver.wait_count("/slow-0", 1, SOON).await.unwrap();
    let (names, total) = (["other".to_owned()], 15 * CHUNK);
    for n in (0..total).step_by(CHUNK) {
        publish_and_wait(&other, n..n + CHUNK, &names).await;
    }
    let metrics = world.dispatchers[0].metrics().await.unwrap();
    let read = metric(&metrics, "hookwright_dispatcher_events_total") as usize;
    println!("{read} of {} events were read when all of the other Producer's were delivered", BACKLOG + total);
    assert!(read < BACKLOG + total, "the backlog was there until the end: {read} events were read");
}
