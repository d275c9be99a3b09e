//! Under a steady load: each event once, and one bad endpoint takes nothing from the others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use hookwright_e2e::{Answer, Gate, Options, Received, World, wait_for};
use serde_json::json;

use crate::faults::{all_received, count_duplicates};
use crate::shop::{SOON, Shop, alone, fixed, metric, once_in_three};

#[tokio::test]
async fn a_thousand_events_are_delivered_exactly_once_by_two_dispatchers() {
    let _machine = alone().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    // What a dispatcher has without a sign of life for 6 s comes again; and one that stands still leaves all to the other.
    once_in_three("each once, by both", async |n| {
        let name = format!("all-{n}");
        shop.subscribe(&name, &[&name], json!({})).await;
        let before = join_all(world.dispatchers.iter().map(events_read)).await;
        let events: Vec<_> = (0..EVENTS).map(|n| shop.event(&name, format!("{n}"))).collect();
        shop.publish_all(&events).await;
        let requests = all_received(&shop, &name, &(0..EVENTS).map(|n| n.to_string()).collect()).await;
        anyhow::ensure!(requests.len() == EVENTS, "{} came again", count_duplicates(&requests));
        shop.status(&name, "all counted", |status| status["delivery"]["delivered"] == EVENTS).await;
        let after = join_all(world.dispatchers.iter().map(events_read)).await;
        let shares: Vec<_> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        let both = shares.iter().all(|share| *share > 0) && shares.iter().sum::<u64>() == EVENTS as u64;
        anyhow::ensure!(both, "{shares:?}");
        Ok(())
    })
    .await;
}

const EVENTS: usize = 1000;

async fn events_read(dispatcher: &hookwright_e2e::Dispatcher) -> u64 {
    let metrics = dispatcher.metrics().await.unwrap();
    let line = metrics.lines().find(|line| line.starts_with("hookwright_dispatcher_events_total")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// How many events are published before those are waited for that can arrive.
const CHUNK: usize = 20;
const TOTAL: usize = 10 * CHUNK;
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
    once_in_three("before those that hang have made room by timing out", async |n| {
        let (took, repeated) = beside_hanging(&shop, &format!("round-{n}")).await;
        println!("{TOTAL} events at {HEALTHY} endpoints in {took:?}, beside {HANGING} that hang");
        anyhow::ensure!(took < TIMEOUT && repeated == 0, "{took:?}, {repeated} came again");
        Ok(())
    })
    .await;
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
}

/// Events of this type to endpoints of their own, of which some hang. Returns how long after the first attempt at one
/// that hangs the last event reached the last of the others, and how many came there again.
async fn beside_hanging(shop: &Shop<'_>, kind: &str) -> (Duration, usize) {
    let hanging: Vec<String> = (0..HANGING).map(|n| format!("{kind}-hangs-{n}")).collect();
    for name in &hanging {
        shop.receiver.answer(&format!("/{name}"), Answer::hang());
        shop.subscribe(name, &[kind], json!({ "delivery": { "timeout": "30s" } })).await;
    }
    let healthy: Vec<String> = (0..HEALTHY).map(|n| format!("{kind}-to-{n}")).collect();
    for name in &healthy {
        shop.subscribe(name, &[kind], json!({})).await;
    }
    for n in (0..TOTAL).step_by(CHUNK) {
        publish_and_wait(shop, kind, n..n + CHUNK, &healthy).await;
    }
    let times = |names: &[String]| -> Vec<Instant> {
        let requests = names.iter().flat_map(|name| shop.receiver.requests(&format!("/{name}")));
        requests.map(|request: Arc<Received>| request.at).collect()
    };
    let (first, arrivals) = (times(&hanging).into_iter().min().unwrap(), times(&healthy));
    (arrivals.iter().max().unwrap().duration_since(first), arrivals.len() - HEALTHY * TOTAL)
}

/// Publishes events, and waits until each path `/<name>` has had as many as were published by then.
async fn publish_and_wait(shop: &Shop<'_>, kind: &str, events: std::ops::Range<usize>, names: &[String]) {
    let bodies: HashSet<String> = events.map(|n| n.to_string()).collect();
    let events: Vec<_> = bodies.iter().map(|body| shop.event(kind, body.clone())).collect();
    shop.publish_all(&events).await;
    for name in names {
        all_received(shop, name, &bodies).await;
    }
}

/// With how many attempts a lane begins.
const FIRST: usize = 8;

/// An endpoint that gets too much gets one attempt at a time, and more again while it answers.
async fn one_at_a_time_after_too_much(shop: &Shop<'_>) {
    const SLOW: Duration = Duration::from_millis(400);
    shop.receiver.script("/narrow", |request| match request.nth {
        ..FIRST => Answer::status(429).header("Retry-After", "1").after(Duration::from_millis(50)),
        _ => Answer::status(200).after(SLOW),
    });
    shop.subscribe("narrow", &["narrow"], fixed("1s")).await;
    let bodies: HashSet<String> = (0..40).map(|n| n.to_string()).collect();
    let events: Vec<_> = bodies.iter().map(|body| shop.event("narrow", body.clone())).collect();
    shop.publish_all(&events).await;
    all_received(shop, "narrow", &bodies).await;
    let requests = shop.receiver.requests("/narrow");
    let mut began: Vec<Instant> =
        requests.iter().filter(|request| request.succeeded()).map(|request| request.at).collect();
    began.sort();
    let gaps: Vec<Duration> = began.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect();
    assert!(gaps[0] >= SLOW - Duration::from_millis(10), "the first is alone: {gaps:?}");
    assert!(gaps.iter().any(|gap| *gap < SLOW), "the lane opens: {gaps:?}");
}

/// More endpoints than a small dispatcher has slots for, if each got as many as it may have.
const SLOW: usize = 12;

#[tokio::test]
async fn a_backlog_behind_slow_endpoints_takes_nothing_from_others_of_the_stream_or_of_another_namespace() {
    const BACKLOG: usize = 200;
    let _machine = alone().await;
    let limits = json!({ "inFlight": 64, "waiting": 64, "heldEvents": 512 });
    let options = Options { dispatcher: json!({ "limits": limits }), ..Options::default() };
    let world = World::start(options).await.unwrap();
    let (slow, other) = (Shop::open(&world, json!({})).await, Shop::open(&world, json!({})).await);
    one_at_a_time_after_too_much(&other).await;
    let gate = Gate::closed();
    let names: Vec<String> = (0..SLOW).map(|n| format!("slow-{n}")).collect();
    for name in &names {
        slow.receiver.answer(&format!("/{name}"), Answer::status(200).once_open(&gate));
        // An attempt that times out is made again soon.
        slow.subscribe(name, &["tick"], fixed("1s")).await;
    }
    slow.subscribe("beside", &["tock"], json!({})).await;
    other.subscribe("other", &[">"], json!({})).await;
    let backlog: Vec<_> = (0..BACKLOG).map(|n| slow.event("tick", n.to_string())).collect();
    slow.publish_all(&backlog).await;
    slow.receiver.wait_count("/slow-0", 1, SOON).await.unwrap();
    for n in (0..3 * CHUNK).step_by(CHUNK) {
        publish_and_wait(&other, "tick", n..n + CHUNK, &["other".to_owned()]).await;
        publish_and_wait(&slow, "tock", n..n + CHUNK, &["beside".to_owned()]).await;
    }
    // What could not be attempted meanwhile is behind or parked, and arrives once its endpoints answer.
    gate.open();
    let bodies: HashSet<String> = (0..BACKLOG).map(|n| n.to_string()).collect();
    for name in &names {
        all_received(&slow, name, &bodies).await;
    }
}
