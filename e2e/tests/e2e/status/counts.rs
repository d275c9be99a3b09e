//! Counts, when those who count come and go. Each test has a world of its own.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use hookwright_core::nats::names::{HEALTH_BUCKET, PARKED_STREAM};
use hookwright_e2e::{Answer, Operator, Options, Scratch, User, World, by_length, is_long, report, wait_for};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::fixed;
use crate::faults::all_received;
use crate::shop::{Shop, beside};

const MINUTE: Duration = Duration::from_secs(60);
/// A dispatcher that died is folded after a minute, and `retrying` is corrected every minute.
const MINUTES: Duration = Duration::from_secs(300);

/// The last tokens of a Subscription's keys in the health bucket.
async fn health_keys(world: &World, uid: &str) -> anyhow::Result<Vec<String>> {
    let bucket = world.nats.jetstream(User::Admin).await?.get_key_value(HEALTH_BUCKET).await?;
    let keys: Vec<String> = bucket.keys().await?.try_collect().await?;
    let prefix = format!("{uid}.");
    Ok(keys.into_iter().filter_map(|key| key.strip_prefix(&prefix).map(str::to_owned)).collect())
}

/// What waits of a Subscription, by the stream.
async fn parked(world: &World, uid: &str) -> usize {
    let stream = world.nats.jetstream(User::Admin).await.unwrap().get_stream(PARKED_STREAM).await.unwrap();
    let subjects = stream.info_with_subjects(format!("hookwright.parked.at.{uid}.*")).await.unwrap();
    subjects.try_collect::<Vec<_>>().await.unwrap().len()
}

fn count(status: &Value, field: &str) -> i64 {
    status["delivery"][field].as_i64().unwrap_or_default()
}

/// How many deliveries fail: fewer than open the breaker, whose probes would be counted, too.
const DOWN: usize = 9;

#[tokio::test]
async fn the_counts_of_the_dead_are_folded_once_by_two_operators_and_retrying_is_corrected() {
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let uid = shop.subscribe("steady", &["ok.*"], json!({})).await;
    let down = shop.subscribe("down", &["down.*"], fixed("10m")).await;
    shop.receiver.answer("/down", Answer::status(500));
    for n in 0..20 {
        shop.publish(&shop.event(&format!("ok.{n}"), "{}")).await;
    }
    for n in 0..DOWN {
        shop.publish(&shop.event(&format!("down.{n}"), "{}")).await;
    }
    shop.status("steady", "counted", |status| count(status, "delivered") == 20).await;
    shop.status("down", "counted", |status| count(status, "retrying") == DOWN as i64).await;

    // A second operator, and two dispatchers that died: one that had parked and not written who took it up, and one that
    // wrote less than it did. Then a real one dies.
    let folder = Scratch::new().unwrap();
    let second = Operator::spawn(folder.path(), &world.nats, &world.sealing, kubeconfig(&world), &json!({}));
    let second = second.unwrap();
    second.wait_ready(MINUTES).await.unwrap();
    let bucket = world.nats.jetstream(User::Admin).await.unwrap().get_key_value(HEALTH_BUCKET).await.unwrap();
    for (uid, dead, delivered, retrying) in
        [(&uid, "00000000deadbee1", 7, 0), (&down, "00000000deadbee1", 0, 5), (&down, "00000000deadbee2", 3, -9)]
    {
        let counts = json!({
            "version": 1, "delivered": delivered, "failedAttempts": 0, "retrying": retrying, "deadLettered": 0,
        });
        bucket.put(format!("{uid}.{dead}"), counts.to_string().into()).await.unwrap();
    }
    let incarnations = health_keys(&world, &down).await.unwrap();
    world.dispatchers[0].kill9().unwrap();
    world.dispatchers[0].restart().unwrap();

    let folded = async |uid: &str| {
        let keys = health_keys(&world, uid).await?;
        anyhow::ensure!(keys.iter().any(|key| key == "base") && keys.len() <= 2, "{keys:?}");
        let status = world.control_plane.get(&shop.namespace, "subscriptions", "steady").await?;
        anyhow::ensure!(count(&status["status"], "delivered") >= 20, "it never goes back");
        Ok(())
    };
    assert_eq!(incarnations.iter().filter(|key| key.starts_with("00000000deadbee")).count(), 2);
    for uid in [&uid, &down] {
        wait_for("the dead to be folded", MINUTES, async || folded(uid).await).await.unwrap();
    }
    assert_eq!(parked(&world, &down).await, DOWN);
    let right = |status: &Value| count(status, "retrying") == DOWN as i64;
    world.wait_status(&shop.namespace, "down", "corrected", MINUTES, right).await.unwrap();
    let status = shop.status("steady", "summed", |status| count(status, "delivered") == 27).await;
    assert_eq!(count(&status, "retrying"), 0);
    let found = world.control_plane.get(&shop.namespace, "subscriptions", "down").await.unwrap();
    assert_eq!((count(&found["status"], "delivered"), count(&found["status"], "failedAttempts")), (3, DOWN as i64));

    // Folding again, by operators that are new, changes nothing.
    second.restart().unwrap();
    world.operator.restart().unwrap();
    world.operator.wait_ready(MINUTES).await.unwrap();
    shop.publish(&shop.event("ok.last", "{}")).await;
    shop.status("steady", "one more", |status| count(status, "delivered") == 28).await;
}

fn kubeconfig(world: &World) -> std::path::PathBuf {
    world.control_plane.kubeconfig().with_file_name("hookwright-operator.kubeconfig")
}

const RATE: u64 = 20;

/// How long the operator is away.
fn operator_down() -> Duration {
    by_length(MINUTE / 3, 10 * MINUTE)
}

#[tokio::test]
async fn a_time_without_the_operator_costs_nothing() {
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.receiver.fail_sometimes("/flaky", 0.2, Answer::status(503));
    for name in ["steady", "flaky"] {
        shop.subscribe(name, &[">"], fixed("2s")).await;
    }
    world.operator.kill9().unwrap();
    let mut tick = interval(Duration::from_micros(1_000_000 / RATE));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let total = RATE * operator_down().as_secs();
    for n in 0..total {
        tick.tick().await;
        shop.publish(&shop.event("tick", format!("{n}"))).await;
        if n == total / 3 {
            world.dispatchers[0].terminate().await.unwrap();
            world.dispatchers[0].restart().unwrap();
        }
        if n == total * 2 / 3 {
            // Deliveries go on.
            shop.requests("steady", usize::try_from(n - RATE).unwrap()).await;
        }
    }
    world.operator.restart().unwrap();
    let back = Instant::now();
    for name in ["steady", "flaky"] {
        all_received(&shop, name, &(0..total).map(|n| n.to_string()).collect()).await;
        let path = format!("/{name}");
        // One that comes again after a dispatcher was slow is counted again.
        let right = |status: &Value| {
            let requests = shop.receiver.requests(&path);
            let failed = requests.iter().filter(|request| !request.succeeded()).count() as i64;
            let found = ["delivered", "failedAttempts", "retrying"].map(|field| count(status, field));
            found == [requests.len() as i64 - failed, failed, 0]
        };
        world.wait_status(&shop.namespace, name, "right again", MINUTES, right).await.unwrap();
    }
    let took = back.elapsed();
    report(&format!("{total} events without the operator; status was right {took:?} after its return"));
    assert!(!is_long() || took < MINUTE, "{took:?}");
}
