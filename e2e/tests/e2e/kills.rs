//! Processes are killed under load. Nothing that NATS acknowledged may be lost. The short form kills twice, the long one
//! five times, in a minute of load; it also judges how long a kill is felt, and how much comes twice: it wants a quiet
//! machine.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookwright_e2e::{Answer, Options, Received, World, by_length, is_long, report, wait_for};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::shop::{Shop, alone, metric};

const RATE: u64 = 200;
/// One kill in each.
const SLICE: Duration = Duration::from_secs(12);
/// What a dispatcher has under way for one endpoint at most, by its default settings.
const IN_FLIGHT: usize = 64;
/// For everything to arrive: it may take a retry or two, and on a slow machine longer. It is no measure of speed.
const ARRIVAL: Duration = Duration::from_secs(180);
/// How long a kill may be felt on a machine that has nothing else to do.
const SILENCE: Duration = Duration::from_secs(10);

fn kills() -> u32 {
    by_length(2, 5)
}

fn load() -> Duration {
    SLICE * kills()
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Dispatcher,
    Nats,
    Operator,
}

#[tokio::test]
async fn a_killed_dispatcher_loses_nothing() {
    survive(Victim::Dispatcher).await;
}

#[tokio::test]
async fn a_killed_nats_server_loses_nothing() {
    survive(Victim::Nats).await;
}

#[tokio::test]
async fn a_killed_operator_loses_nothing() {
    survive(Victim::Operator).await;
}

/// In a drain all slots are taken and the cores are busy: then acks wait longest for their turn. What is parked when the
/// dispatcher is killed, which on a slow machine may be much, may have been stored and not acked: it comes twice, too.
#[tokio::test]
async fn what_a_dispatcher_killed_in_a_drain_sends_twice_was_under_way() {
    const EVENTS: usize = 10_000;
    let _machine = alone().await;
    let dispatcher = json!({ "lane": { "inFlight": IN_FLIGHT } });
    let world = World::start(Options { dispatcher, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("one", &[">"], json!({})).await;
    let dispatcher = &world.dispatchers[0];
    let (mut acknowledged, mut counted) = (HashSet::new(), 0);
    for round in 1..=by_length(1, 3) {
        dispatcher.terminate().await.unwrap();
        let bodies: Vec<String> = (0..EVENTS).map(|n| format!("{round}-{n}")).collect();
        let events: Vec<_> = bodies.iter().map(|body| shop.event("tick", body.clone())).collect();
        shop.publish_all(&events).await;
        let before = shop.receiver.requests("/one").len();
        acknowledged.extend(bodies);
        dispatcher.restart().unwrap();
        shop.receiver.wait_count("/one", before + EVENTS / 3, ARRIVAL).await.unwrap();
        let parked = parked(&world).await;
        dispatcher.restart().unwrap();
        let received = shop.receiver.requests("/one").len();
        assert!(received < before + EVENTS, "{received} requests: killed in the midst of them");
        all_received(&shop, "one", &acknowledged).await;
        shop.all_acked(ARRIVAL).await;
        let duplicates = count_duplicates(&shop.receiver.requests("/one")) - counted;
        counted += duplicates;
        report(&format!("a dispatcher killed in a drain: {duplicates} duplicates, {parked} parked"));
        assert!(duplicates <= IN_FLIGHT + parked, "{duplicates} duplicates, {parked} parked");
        assert!(parked * 50 <= EVENTS, "a backlog of a healthy endpoint waits in its stream: {parked} parked");
    }
}

async fn survive(victim: Victim) {
    let _machine = alone().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.receiver.fail_sometimes("/flaky", 0.2, Answer::status(503));
    let retry = json!({ "maxAttempts": 30, "backoff": { "type": "Fixed", "delay": "1s" }, "jitterPercent": 20 });
    for name in ["one", "two", "flaky"] {
        shop.subscribe(name, &[">"], json!({ "delivery": { "retry": retry } })).await;
    }
    let start = Instant::now();
    let (acknowledged, ()) = tokio::join!(publish(&shop), kill(&world, victim));
    let load = start..Instant::now();
    assert!(!acknowledged.is_empty());

    let mut duplicates = 0;
    for name in ["one", "two", "flaky"] {
        let path = format!("/{name}");
        all_received(&shop, name, &acknowledged).await;
        let requests = shop.receiver.requests(&path);
        duplicates += count_duplicates(&requests);
        if name != "flaky" {
            let silence = longest_silence(&requests, &load);
            report(&format!("{victim:?} killed {} times: longest silence of {name} {silence:?}", kills()));
            assert!(!is_long() || silence <= SILENCE, "{name}: {silence:?}");
        }
    }
    // Whoever was killed is back and at work.
    shop.subscribe("fresh", &["fresh"], json!({})).await;
    shop.publish(&shop.event("fresh", "{}")).await;
    shop.requests("fresh", 1).await;
    shop.status("fresh", "counted", |status| status["delivery"]["delivered"] == 1).await;
    let (times, events) = (kills(), acknowledged.len());
    report(&format!("{victim:?} killed {times} times: {events} events, 0 lost, {duplicates} duplicates"));
    assert!(!is_long() || duplicates <= kills() as usize * IN_FLIGHT, "{duplicates} duplicates");
}

/// Waits until each of these has been delivered at `/<name>`: in the end, nothing is lost.
async fn all_received(shop: &Shop<'_>, name: &str, acknowledged: &HashSet<String>) {
    let path = format!("/{name}");
    wait_for(&format!("all of {name}"), ARRIVAL, async || {
        let missing = missing(&shop.receiver.requests(&path), acknowledged);
        anyhow::ensure!(missing.is_empty(), "{} missing, {:?} ...", missing.len(), missing.iter().take(3));
        Ok(())
    })
    .await
    .unwrap();
}

/// How many deliveries the dispatcher has parked since it started.
async fn parked(world: &World) -> usize {
    let metrics = world.dispatchers[0].metrics().await.unwrap();
    usize::try_from(metric(&metrics, "hookwright_dispatcher_parked_total")).unwrap()
}

/// Publishes at a steady rate; returns the bodies of what was acknowledged.
async fn publish(shop: &Shop<'_>) -> HashSet<String> {
    let mut tick = interval(Duration::from_micros(1_000_000 / RATE));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut publishing = JoinSet::new();
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed() < load() {
        tick.tick().await;
        let body = format!("event-{n}");
        n += 1;
        let (publisher, event) = (shop.publisher.clone(), shop.event("tick", body.clone()).message_id(&body));
        publishing.spawn(async move {
            publisher.publish_through_faults(&event, Duration::from_secs(60)).await.ok().map(|_| body)
        });
    }
    publishing.join_all().await.into_iter().flatten().collect()
}

/// Kills at random times, one in each slice of the load.
async fn kill(world: &World, victim: Victim) {
    let start = tokio::time::Instant::now();
    for n in 0..kills() {
        let within = SLICE.mul_f64(0.2 + 0.6 * rand::random::<f64>());
        sleep_until(start + SLICE * n + within).await;
        match victim {
            Victim::Nats => world.nats.restart().await.unwrap(),
            Victim::Operator => {
                world.operator.kill9().unwrap();
                world.operator.restart().unwrap();
            }
            Victim::Dispatcher => {
                let dispatcher = &world.dispatchers[rand::random_range(0..world.dispatchers.len())];
                dispatcher.kill9().unwrap();
                dispatcher.restart().unwrap();
            }
        }
    }
}

fn text(request: &Received) -> String {
    String::from_utf8_lossy(&request.body).into_owned()
}

fn missing(requests: &[Arc<Received>], acknowledged: &HashSet<String>) -> Vec<String> {
    let received: HashSet<String> = requests.iter().filter(|request| request.succeeded()).map(|r| text(r)).collect();
    acknowledged.difference(&received).cloned().collect()
}

/// Successful receipts beyond the first of each event. Each receipt of an event has the same `webhook-id`.
fn count_duplicates(requests: &[Arc<Received>]) -> usize {
    let mut ids: HashMap<String, HashSet<String>> = HashMap::new();
    let mut successes: HashMap<String, usize> = HashMap::new();
    for request in requests {
        ids.entry(text(request)).or_default().insert(request.webhook_id().to_owned());
        *successes.entry(text(request)).or_default() += usize::from(request.succeeded());
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "an event has one webhook-id at each subscription");
    successes.values().map(|n| n.saturating_sub(1)).sum()
}

fn longest_silence(requests: &[Arc<Received>], load: &std::ops::Range<Instant>) -> Duration {
    let mut times: Vec<Instant> = requests.iter().map(|request| request.at).filter(|at| load.contains(at)).collect();
    times.extend([load.start, load.end]);
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
