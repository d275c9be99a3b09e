//! Many Subscriptions under load: two thousand in the long form, which also judges how soon a turn is seen. The short
//! form has enough for their statuses to be due more often than they may be written.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use hookwright_core::delivery::health::DeliveryCounts;
use hookwright_core::nats::names::HEALTH_BUCKET;
use hookwright_e2e::{Answer, Options, User, World, by_length, is_long, report, wait_for};
use kube::Client;
use kube::core::{DynamicObject, WatchEvent};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::shop::{Shop, alone, fixed, metric};

fn subscriptions() -> usize {
    by_length(800, 2_000)
}

fn load() -> Duration {
    by_length(Duration::from_secs(25), Duration::from_secs(40))
}

/// Each event type goes to this many Subscriptions.
const SHARE: usize = 20;
const EVENTS_PER_SECOND: u64 = 10;
const WINDOW: Duration = Duration::from_secs(10);
/// The Subscriptions whose endpoint fails under load, each with an event type of its own.
const SICK: usize = 5;
/// Between two looks at all of them.
const PAUSE: Duration = Duration::from_secs(4);
/// How long it is waited for this many statuses to be written after the load.
const SHOWN: Duration = Duration::from_secs(180);
/// How many writes of status may be under way at the same time: as many objects are reconciled.
const UNDER_WAY: u64 = 64;
fn written() -> usize {
    by_length(400, 800)
}

/// How late a turn may be seen in the long form. On a machine that has nothing else to do it is about 1.3 s, in a debug
/// build.
const TURN_SEEN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn many_subscriptions_share_twenty_writes_a_second() {
    let _machine = alone().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    create(&shop).await;
    for n in 0..SICK {
        shop.receiver.answer(&format!("/sick-{n}"), Answer::status(500));
    }
    let publish = async {
        let mut tick = interval(Duration::from_micros(1_000_000 / EVENTS_PER_SECOND));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (start, mut n) = (Instant::now(), 0);
        while start.elapsed() < load() {
            tick.tick().await;
            shop.publish(&shop.event(&format!("t.{}", n % (subscriptions() / SHARE)), "{}")).await;
            // In the midst of it, what makes endpoints turn.
            if n % 10 == 0 && start.elapsed() > load() / 4 {
                shop.publish(&shop.event("sick", "{}")).await;
            }
            n += 1;
        }
    };
    let (start, before) = (Instant::now(), written_at_the_server(&world).await);
    let (busiest, turns, backwards, ()) = tokio::join!(busiest(&world), turns(&shop), backwards(&shop), publish);
    let served = written_at_the_server(&world).await - before;
    let all = subscriptions();
    report(&format!(
        "{all} Subscriptions: at most {busiest} writes of status in 10 s, {served} in all; turns seen after {turns:?}"
    ));
    // Spent when a write begins, counted when it has ended: one that took long counts beside those of the next window.
    assert!(busiest <= by_length(220 + UNDER_WAY, 210), "{busiest} in 10 s");
    assert!(served <= 20 * start.elapsed().as_secs() + UNDER_WAY, "{served} by the API server");
    assert!(!is_long() || turns.iter().all(|late| *late <= TURN_SEEN), "{turns:?}");
    assert_eq!(backwards, Vec::<String>::new());
    exact(&shop).await;
    shown(&shop).await;
}

/// All of them, with one signing key: that many generated ones are another test's matter.
async fn create(shop: &Shop<'_>) {
    let keys = shop.shared_key().await;
    let mut objects: Vec<Value> = (0..subscriptions() - SICK)
        .map(|n| shop.subscription(&format!("s-{n}"), &[&format!("t.{}", n / SHARE)], keys.clone()))
        .collect();
    for n in 0..SICK {
        let mut spec = fixed("3s");
        spec["signing"] = keys["signing"].clone();
        let mut object = shop.subscription(&format!("sick-{n}"), &["sick"], spec);
        object["metadata"]["labels"] = json!({ "sick": "yes" });
        objects.push(object);
    }
    shop.subscribe_all(objects).await;
}

/// The most writes of status, by the operator's count, in any ten seconds.
async fn busiest(world: &World) -> u64 {
    let (start, mut samples) = (Instant::now(), Vec::new());
    while start.elapsed() < load() + WINDOW {
        let asked = start.elapsed();
        let metrics = world.operator.metrics().await.unwrap();
        samples.push((asked, metric(&metrics, "operator_status_writes_total"), start.elapsed()));
        sleep(Duration::from_millis(100)).await;
    }
    let within = |n: usize| {
        let (from, count, _) = samples[n];
        // Certainly no more than ten seconds lie between the two.
        let last = samples[n..].iter().rfind(|(_, _, answered)| *answered <= from + WINDOW);
        last.map_or(0, |(_, until, _)| until - count)
    };
    (0..samples.len()).map(within).max().unwrap_or_default()
}

/// The writes of status that the API server has served.
async fn written_at_the_server(world: &World) -> u64 {
    let metrics = world.control_plane.kubectl(&["get", "--raw", "/metrics"]).await.unwrap();
    let ours = |line: &&str| {
        line.starts_with("apiserver_request_total") && line.contains("hookwright.dev") && line.contains("\"status\"")
    };
    metrics.lines().filter(ours).map(|line| metric(line, "apiserver_request_total")).sum()
}

/// How long after the request that made it due each of the turns was seen by a watch.
async fn turns(shop: &Shop<'_>) -> Vec<Duration> {
    let client = shop.world.control_plane.client().await.unwrap();
    let watch = format!("{}?watch=true&labelSelector=sick", path(shop));
    let request = http::Request::get(watch).body(Vec::new()).unwrap();
    let events = client.request_events::<DynamicObject>(request).await.unwrap();
    let mut events = std::pin::pin!(events);
    let mut turned = HashMap::new();
    while turned.len() < SICK {
        let event = tokio::time::timeout(SHOWN, events.try_next()).await.expect("no turn").unwrap();
        let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event.expect("the watch has ended") else {
            continue;
        };
        let (name, status) = (object.metadata.name.unwrap(), &object.data["status"]);
        if status["health"] == "Unhealthy" && !turned.contains_key(&name) {
            assert_eq!(status["recentActivity"][0]["activity"], "Unhealthy");
            turned.insert(name, Instant::now());
        }
    }
    let late = |(name, seen): (&String, &Instant)| {
        let requests = shop.receiver.requests(&format!("/{name}"));
        let span = |at: Instant| at.duration_since(requests[0].at);
        let due = requests.iter().skip(2).find(|request| span(request.at) >= Duration::from_secs(10));
        // On a slow machine the ten seconds of the dispatcher may be a little less here.
        seen.duration_since(due.or(requests.last()).unwrap().at)
    };
    turned.iter().map(late).collect()
}

fn path(shop: &Shop<'_>) -> String {
    format!("/apis/hookwright.dev/v1alpha1/namespaces/{}/subscriptions", shop.namespace)
}

/// What the statuses say of `delivered`, `failedAttempts` and `deadLettered`, by name.
async fn counts(shop: &Shop<'_>, client: &Client) -> HashMap<String, [i64; 3]> {
    let request = http::Request::get(path(shop)).body(Vec::new()).unwrap();
    let list: Value = client.request(request).await.unwrap();
    let of = |object: &Value| {
        let delivery = &object["status"]["delivery"];
        let counts = ["delivered", "failedAttempts", "deadLettered"];
        let counts = counts.map(|field| delivery[field].as_i64().unwrap_or_default());
        (object["metadata"]["name"].as_str().unwrap().to_owned(), counts)
    };
    list["items"].as_array().unwrap().iter().map(of).collect()
}

/// Looks at all of them again and again; returns whose counts went backwards.
async fn backwards(shop: &Shop<'_>) -> Vec<String> {
    let client = shop.world.control_plane.client().await.unwrap();
    let (start, mut last, mut backwards) = (Instant::now(), HashMap::new(), Vec::new());
    while start.elapsed() < load() {
        for (name, counts) in self::counts(shop, &client).await {
            let old = last.insert(name.clone(), counts).unwrap_or_default();
            if old.iter().zip(counts).any(|(old, new)| new < *old) {
                backwards.push(format!("{name}: {old:?} to {counts:?}"));
            }
        }
        sleep(PAUSE).await;
    }
    backwards
}

/// No dispatcher died, so what they have counted is what receivers got.
async fn exact(shop: &Shop<'_>) {
    let bucket = shop.world.nats.jetstream(User::Admin).await.unwrap().get_key_value(HEALTH_BUCKET).await.unwrap();
    wait_for("all counts to be written", SHOWN, async || {
        let keys: Vec<String> = bucket.keys().await?.try_collect().await?;
        let mut counted = 0;
        for key in &keys {
            let value = bucket.get(key).await?.unwrap_or_default();
            counted += hookwright_core::record::decode::<DeliveryCounts>(&value)?.tally.delivered;
        }
        let got: usize = (0..subscriptions() - SICK).map(|n| shop.receiver.count(&format!("/s-{n}"))).sum();
        anyhow::ensure!(counted == got as u64, "{counted} are counted, {got} were received");
        Ok(())
    })
    .await
    .unwrap();
}

/// What a status says once it is written again is what its receiver got. For all 2,000 that takes 100 s at 20 writes a
/// second; it is seen of those that are written in about half of that, those first
/// that waited longest.
async fn shown(shop: &Shop<'_>) {
    let client = shop.world.control_plane.client().await.unwrap();
    let (start, before) = (Instant::now(), counts(shop, &client).await);
    let (written, exact) = wait_for("statuses to say what was received", SHOWN, async || {
        sleep(PAUSE).await;
        let (mut written, mut exact, mut wrong) = (0, 0, Vec::new());
        for (name, counts) in counts(shop, &client).await.into_iter().filter(|(name, _)| name.starts_with("s-")) {
            let got = shop.receiver.count(&format!("/{name}"));
            let (is_written, is_exact) = (counts != before[&name], counts == [got as i64, 0, 0]);
            written += usize::from(is_written);
            exact += usize::from(is_exact);
            if is_written && !is_exact || counts[0] > got as i64 {
                wrong.push(format!("{name}: {counts:?}, {got} received"));
            }
        }
        anyhow::ensure!(wrong.is_empty() && written >= self::written(), "{written} are written, wrong are {wrong:?}");
        Ok((written, exact))
    })
    .await
    .unwrap();
    report(&format!("{written} statuses were written in {:?} after the load, all exact; {exact} are", start.elapsed()));
}
