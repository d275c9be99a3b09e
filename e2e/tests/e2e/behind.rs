//! Subscriptions that are behind: their events stay in the stream until a reader of their own delivers them.

mod changes;
mod kills;
mod losses;
mod many;
mod probes;

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use hookwright_core::nats::names::POSITIONS_BUCKET;
use hookwright_core::position::{Position, Range, Reason, Waits};
use hookwright_core::record::{decode, encode};
use hookwright_e2e::{Answer, Event, User, wait_for};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::disabled::resume;
use crate::shop::{SOON, Shop, condition, fixed, merge, metric, shared};

/// Checks that each of these events was delivered, and not more often than that. An event may come twice that another
/// dispatcher took while the Subscription went behind, or that came while it became live.
fn at_most(shop: &Shop<'_>, path: &str, bodies: std::ops::Range<usize>, most: usize) {
    let mut counts: HashMap<String, usize> = bodies.map(|n| (n.to_string(), 0)).collect();
    for request in shop.receiver.requests(path).iter().filter(|request| request.succeeded()) {
        if let Some(count) = counts.get_mut(&*String::from_utf8_lossy(&request.body)) {
            *count += 1;
        }
    }
    let wrong: Vec<_> = counts.iter().filter(|(_, count)| !(1..=most).contains(*count)).collect();
    assert!(wrong.is_empty(), "{path}: {wrong:?}");
}

async fn position(shop: &Shop<'_>, uid: &str) -> Option<Position> {
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let bucket = jetstream.get_key_value(POSITIONS_BUCKET).await.unwrap();
    bucket.get(uid).await.unwrap().map(|value| decode(&value).unwrap())
}

/// Puts a live Subscription behind, from this sequence on.
async fn go_behind(shop: &Shop<'_>, uid: &str, from: u64) {
    put_behind(shop, uid, from, None).await;
}

/// The same; the Subscription waits for something.
async fn put_behind(shop: &Shop<'_>, uid: &str, from: u64, waits: Option<Waits>) {
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let mut stream = jetstream.get_stream(format!("{}_orders", shop.namespace)).await.unwrap();
    let created = stream.info().await.unwrap().created;
    let created = Timestamp::from_nanosecond(created.unix_timestamp_nanos()).unwrap();
    let behind = Position {
        ranges: vec![Range { from, to: None, until: None, begun: false }],
        since: Some(Timestamp::now()),
        reason: Some(Reason::StartFrom),
        waits,
        ..Position::live(created)
    };
    let bucket = jetstream.get_key_value(POSITIONS_BUCKET).await.unwrap();
    bucket.create(uid, encode(&behind).unwrap().into()).await.unwrap();
}

async fn wait_live(shop: &Shop<'_>, uid: &str) {
    wait_for("the Subscription to be live", SOON * 2, async || {
        let position = position(shop, uid).await;
        // The end of the last range may lie a little ahead of the stream's last event.
        anyhow::ensure!(position.as_ref().is_some_and(|position| !position.is_behind()), "{position:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_a_position_covers_is_delivered_from_the_stream_and_then_the_subscription_is_live() {
    let (shop, _machine) = shared().await;
    publish(&shop, 0..300).await;
    let uid = shop.subscribe("late", &["order.*"], json!({})).await;
    go_behind(&shop, &uid, 101).await;
    delivered(&shop, "/late", 200).await;
    publish(&shop, 300..350).await;
    delivered(&shop, "/late", 250).await;
    wait_live(&shop, &uid).await;
    publish(&shop, 350..400).await;
    delivered(&shop, "/late", 300).await;
    at_most(&shop, "/late", 100..300, 1);
    at_most(&shop, "/late", 300..400, 2);
    assert_eq!(shop.deliveries("/late").len(), 300, "none before the position");
}

/// Publishes events with these bodies, `order.created` each.
pub(crate) async fn publish(shop: &Shop<'_>, bodies: std::ops::Range<usize>) {
    let events: Vec<_> = bodies.map(|n| shop.event("order.created", format!("{n}"))).collect();
    shop.publish_all(&events).await;
}

/// Waits until that many deliveries have succeeded at a path.
pub(crate) async fn delivered(shop: &Shop<'_>, path: &str, n: usize) {
    wait_for(&format!("{n} deliveries at {path}"), SOON * 2, async || {
        let seen = shop.deliveries(path).len();
        anyhow::ensure!(seen >= n, "{seen}");
        Ok(())
    })
    .await
    .unwrap();
}

fn merged(mut one: Value, other: Value) -> Value {
    merge(&mut one, other);
    one
}

pub(crate) fn reason(status: &Value) -> String {
    let delivering = condition(status, "Delivering");
    format!("{} {}", delivering["status"].as_str().unwrap_or("none"), delivering["reason"].as_str().unwrap_or(""))
}

async fn suspend(shop: &Shop<'_>, name: &str, suspend: bool) {
    shop.subscribe(name, &["order.*"], json!({ "suspend": suspend })).await;
}

/// A Subscription that is suspended, and for which that many events wait. Returns its uid.
async fn suspended_with(shop: &Shop<'_>, name: &str, events: usize) -> String {
    let uid = shop.subscribe(name, &["order.*"], json!({ "suspend": true })).await;
    publish(shop, 0..events).await;
    shop.all_acked(SOON).await;
    uid
}

#[tokio::test]
async fn a_suspended_subscription_gets_everything_once_it_is_resumed() {
    let (shop, _machine) = shared().await;
    let uid = shop.subscribe("paused", &["order.*"], json!({})).await;
    shop.subscribe("other", &["order.*"], json!({})).await;
    publish(&shop, 0..20).await;
    delivered(&shop, "/paused", 20).await;

    // Programmed says that all dispatchers know of it.
    suspend(&shop, "paused", true).await;
    let before = shop.receiver.count("/paused");
    publish(&shop, 20..320).await;
    delivered(&shop, "/other", 320).await;
    shop.all_acked(SOON).await;
    assert_eq!(shop.receiver.count("/paused"), before, "no request starts");
    let status = shop.status("paused", "behind", |status| {
        let behind = &status["delivery"]["behind"];
        reason(status) == "False Suspended" && behind["events"] == 300 && behind["oldestEventTime"].is_string()
    });
    let status = status.await;
    assert_eq!(condition(&status, "Ready")["status"], "True");
    let behind = &status["delivery"]["behind"];
    assert_eq!((&behind["reason"], &behind["fromSequence"]), (&json!("Suspended"), &json!(21)));
    let time = |field: &str| behind[field].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(time("oldestEventTime") <= time("since"), "{behind}");
    let table = shop.world.control_plane.kubectl(&["get", "hsub", "paused", "-n", &shop.namespace]).await.unwrap();
    assert!(table.contains("BEHIND") && table.contains(" 300 "), "{table}");
    assert_eq!(status["delivery"]["retrying"].as_u64().unwrap_or_default(), 0, "nothing is parked");

    suspend(&shop, "paused", false).await;
    publish(&shop, 320..370).await;
    delivered(&shop, "/paused", 370).await;
    wait_live(&shop, &uid).await;
    publish(&shop, 370..400).await;
    delivered(&shop, "/paused", 400).await;
    at_most(&shop, "/paused", 0..320, 1);
    at_most(&shop, "/paused", 320..400, 2);
    shop.status("paused", "live", |status| reason(status) == "True Live" && status["delivery"]["behind"].is_null())
        .await;
}

#[tokio::test]
async fn what_fails_while_suspended_is_parked_and_goes_out_afterwards() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/paused", Answer::status(503));
    shop.subscribe("paused", &["order.*"], fixed("3s")).await;
    publish(&shop, 0..3).await;
    shop.status("paused", "retrying", |status| status["delivery"]["retrying"] == 3).await;
    shop.subscribe("paused", &["order.*"], merged(fixed("3s"), json!({ "suspend": true }))).await;
    let parked = wait_for("what is due to be parked again", SOON, async || {
        let mut parked = 0;
        for dispatcher in &shop.world.dispatchers {
            parked += metric(&dispatcher.metrics().await?, "parked_total{cause=\"behind\"}");
        }
        anyhow::ensure!(parked >= 3, "{parked}");
        Ok(())
    });
    parked.await.unwrap();
    let before = shop.receiver.count("/paused");
    shop.receiver.answer("/paused", Answer::status(200));
    shop.subscribe("paused", &["order.*"], merged(fixed("3s"), json!({ "suspend": false }))).await;
    delivered(&shop, "/paused", 3).await;
    assert_eq!(shop.receiver.count("/paused"), before + 3);
}

#[tokio::test]
async fn what_waits_is_left_out_if_that_is_asked_for() {
    let (shop, _machine) = shared().await;
    let skip = |suspend: bool| json!({ "suspend": suspend, "delivery": { "onResume": "SkipToNow" } });
    let uid = shop.subscribe("now", &["order.*"], skip(true)).await;
    publish(&shop, 0..50).await;
    shop.all_acked(SOON).await;
    shop.subscribe("now", &["order.*"], skip(false)).await;
    wait_live(&shop, &uid).await;
    publish(&shop, 50..60).await;
    delivered(&shop, "/now", 10).await;
    assert_eq!(shop.deliveries("/now").len(), 10);
    shop.status("now", "skipped", |status| status["delivery"]["skipped"].as_u64() >= Some(50)).await;

    // The edit that resumes can't be used at first.
    let uid = shop.subscribe("later", &["order.*"], skip(true)).await;
    publish(&shop, 60..80).await;
    shop.all_acked(SOON).await;
    let missing = json!({ "name": "a", "valueFrom": { "secretKeyRef": { "name": "missing", "key": "a" } } });
    let spec = merged(skip(false), json!({ "endpoint": { "headers": [missing] } }));
    shop.world.control_plane.apply_json(&shop.subscription("later", &["order.*"], spec)).await.unwrap();
    shop.status("later", "refused", |status| reason(status) == "False Refused").await;
    shop.subscribe("later", &["order.*"], skip(false)).await;
    wait_live(&shop, &uid).await;
    publish(&shop, 80..85).await;
    delivered(&shop, "/later", 5).await;
    assert_eq!(shop.deliveries("/later").len(), 5);
}

#[tokio::test]
async fn start_from() {
    let (shop, _machine) = shared().await;
    publish(&shop, 0..100).await;
    let start = |start: Value| json!({ "startFrom": start });
    for (name, from, n) in [
        ("earliest", start(json!({ "position": "Earliest" })), 100),
        ("sequence", start(json!({ "position": "Sequence", "sequence": 61 })), 40),
        ("time", start(json!({ "position": "Time", "time": "2020-01-01T00:00:00Z" })), 100),
        ("new", start(json!({ "position": "New" })), 0),
    ] {
        shop.subscribe(name, &["order.*"], from).await;
        delivered(&shop, &format!("/{name}"), n).await;
    }
    // What hasn't come yet is told, and nothing is delivered.
    for (name, from) in [
        ("future", json!({ "position": "Time", "time": "2999-01-01T00:00:00Z" })),
        ("beyond", json!({ "position": "Sequence", "sequence": 105 })),
    ] {
        let object = shop.subscription(name, &["order.*"], start(from));
        shop.world.control_plane.apply_json(&object).await.unwrap();
        let refused = |status: &Value| condition(status, "Accepted")["reason"] == "StartInFuture";
        let status = shop.status(name, "in the future", refused).await;
        assert_eq!(condition(&status, "Accepted")["status"], "False", "{name}");
    }
    publish(&shop, 100..110).await;
    // The operator looks every few minutes, and at each change of the object.
    resume(&shop, "beyond", "look").await;
    delivered(&shop, "/beyond", 6).await;
    at_most(&shop, "/beyond", 104..110, 2);
    assert_eq!((shop.deliveries("/beyond").len(), shop.receiver.count("/future")), (6, 0));
    // The shared reader of this Producer starts at the first event, too: those before the start are left out.
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let subjects = vec![format!("{}.old.>", shop.namespace)];
    let name = format!("{}_old", shop.namespace);
    jetstream
        .create_stream(Config { name: name.clone(), subjects: subjects.clone(), ..Config::default() })
        .await
        .unwrap();
    for n in 1..=40 {
        shop.publish(&Event::new(format!("{}.old.x", shop.namespace), n.to_string())).await;
    }
    shop.produce("old", "old", json!({ "subjects": subjects, "stream": { "policy": "Existing", "name": name } })).await;
    let late = json!({ "producerRef": { "name": "old" }, "startFrom": { "position": "Sequence", "sequence": 31 } });
    shop.subscribe("late", &[">"], late).await;
    delivered(&shop, "/late", 10).await;
    at_most(&shop, "/late", 31..41, 1);
    assert_eq!(shop.deliveries("/late").len(), 10);
    for (name, n) in [("earliest", 110), ("sequence", 50), ("time", 110), ("new", 10)] {
        delivered(&shop, &format!("/{name}"), n).await;
        assert_eq!(shop.deliveries(&format!("/{name}")).len(), n, "{name}");
        at_most(&shop, &format!("/{name}"), 110 - n..100, 1);
        at_most(&shop, &format!("/{name}"), 100..110, 2);
    }
}

/// Events that are published at a pace until it is stopped. Returns how many there were.
async fn keep_publishing(shop: &Shop<'_>, stop: CancellationToken) -> usize {
    let (mut n, mut ticks) = (0, interval(Duration::from_millis(50)));
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        publish(shop, n..n + 10).await;
        n += 10;
    }
    n
}

#[tokio::test]
async fn going_behind_and_back_in_quick_succession_under_load_loses_nothing() {
    let (shop, _machine) = shared().await;
    // Something is under way all the time.
    shop.receiver.script("/toggled", |_| Answer::status(200).after(Duration::from_millis(100)));
    let uid = shop.subscribe("toggled", &["order.*"], json!({})).await;
    let stop = CancellationToken::new();
    let toggle = async {
        for n in 0..8 {
            suspend(&shop, "toggled", n % 2 == 0).await;
        }
        wait_live(&shop, &uid).await;
        stop.cancel();
    };
    let (published, ()) = tokio::join!(keep_publishing(&shop, stop.clone()), toggle);
    delivered(&shop, "/toggled", published).await;
    wait_live(&shop, &uid).await;
    let (requests, seen) = (shop.receiver.count("/toggled"), shop.deliveries("/toggled").len());
    println!("{published} events, {} came twice", requests - seen);
    assert_eq!(seen, published);
}
