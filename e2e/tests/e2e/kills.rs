//! Processes are killed under load. Nothing that NATS acknowledged may be lost. The short form kills twice, the long one
//! five times, in a minute of load; it also judges how long a kill is felt, and how much comes twice: it wants a quiet
//! machine.

use std::collections::HashSet;
use std::time::Duration;

use hookwright_e2e::{Answer, Options, World, by_length, is_long, report, servers};
use serde_json::json;
use tokio::time::sleep_until;

use crate::faults::{ARRIVAL, ENDPOINTS, Load, all_received, count_duplicates};
use crate::shop::{Shop, alone, metric};

const RATE: u64 = 200;
/// One kill in each.
const SLICE: Duration = Duration::from_secs(12);
/// What a dispatcher has under way for one endpoint at most, by its default settings.
const IN_FLIGHT: usize = 64;

/// How long a kill may be felt on a machine that has nothing else to do. A cluster elects leaders first.
fn tolerated_silence(victim: Victim) -> Duration {
    let elects = victim == Victim::Nats && servers() > 1;
    Duration::from_secs(if elects { 20 } else { 10 })
}

fn kills() -> u32 {
    by_length(2, 5)
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
    let (wanted, mut in_their_midst) = (by_length(1, 3), 0);
    // A kill that comes too late, because this process had no turn, is not counted.
    for round in 1..=wanted + 2 {
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
        in_their_midst += usize::from(received < before + EVENTS);
        all_received(&shop, "one", &acknowledged).await;
        shop.all_acked(ARRIVAL).await;
        let duplicates = count_duplicates(&shop.receiver.requests("/one")) - counted;
        counted += duplicates;
        report(&format!("a dispatcher killed in a drain: {duplicates} duplicates, {parked} parked"));
        assert!(duplicates <= IN_FLIGHT + parked, "{duplicates} duplicates, {parked} parked");
        // One that is not attempted within seconds is parked, so on a slow machine much may be.
        let few = !is_long() || parked * 50 <= EVENTS;
        assert!(few, "a backlog of a healthy endpoint waits in its stream: {parked} parked");
        if in_their_midst == wanted {
            return;
        }
    }
    panic!("{in_their_midst} killed in the midst of the events");
}

async fn survive(victim: Victim) {
    let _machine = alone().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.receiver.fail_sometimes("/flaky", 0.2, Answer::status(503));
    let retry = json!({ "maxAttempts": 30, "backoff": { "type": "Fixed", "delay": "1s" }, "jitterPercent": 20 });
    for name in ENDPOINTS {
        shop.subscribe(name, &[">"], json!({ "delivery": { "retry": retry } })).await;
    }
    let load = Load::during(&shop, &shop.publisher, RATE, kill(&world, victim)).await;

    let what = format!("{victim:?} killed {} times", kills());
    let duplicates = load.survived(&shop, &what, tolerated_silence(victim)).await;
    // The killed process is back and at work.
    shop.subscribe("fresh", &["fresh"], json!({})).await;
    shop.publish(&shop.event("fresh", "{}")).await;
    shop.requests("fresh", 1).await;
    shop.status("fresh", "counted", |status| status["delivery"]["delivered"] == 1).await;
    report(&format!("{what}: {} events, 0 lost, {duplicates} duplicates", load.acknowledged.len()));
    assert!(!is_long() || duplicates <= kills() as usize * IN_FLIGHT, "{duplicates} duplicates");
}

/// How many deliveries the dispatcher has parked since it started.
async fn parked(world: &World) -> usize {
    let metrics = world.dispatchers[0].metrics().await.unwrap();
    usize::try_from(metric(&metrics, "hookwright_dispatcher_parked_total")).unwrap()
}

/// Kills at random times, one in each slice of time.
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
    sleep_until(start + SLICE * kills()).await;
}
