//! Bounds on what waits: the quota of each Subscription, and the budget of all. Each test has a world of its own.

mod gone;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use hookwright_core::delivery::breaker::FAILURES;
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::decide::LAST_CHANCES;
use hookwright_core::delivery::progress::Progress;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{HEALTH_BUCKET, health_key};
use hookwright_e2e::{Answer, Dispatcher, Gate, Options, Received, User, World, wait_for};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, beside, condition, fixed, merge, metric, once_in_three};

const QUOTA: usize = 20;
/// The body of an event that endpoints take which [`picky`] made.
const GOOD: &str = "good";
/// What a dispatcher may park before it knows what the others have parked: a tenth of the quota, and what is under way
/// while it looks, at more than a thousand keys.
const UNSEEN: usize = 12;

/// How much waits, and how much was given up, once both together are this many.
async fn settled(shop: &Shop<'_>, name: &str, failed: usize) -> (usize, usize) {
    let counts = |status: &Value| {
        let count = |field: &str| status["delivery"][field].as_u64().unwrap_or_default() as usize;
        (count("retrying"), count("deadLettered"))
    };
    let all = |status: &Value| counts(status).0 + counts(status).1 == failed;
    counts(&shop.status(name, &format!("{failed} parked or given up"), all).await)
}

/// Waits until that many deliveries have succeeded at a path; none more than once.
async fn delivered(shop: &Shop<'_>, path: &str, n: usize) {
    wait_for(&format!("{n} deliveries at {path}"), SOON, async || {
        let seen = shop.deliveries(path);
        anyhow::ensure!(seen.len() == n, "{}", seen.len());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(shop.deliveries(path).values().max(), Some(&1), "{path}: none comes twice");
}

async fn publish(shop: &Shop<'_>, kind: &str, body: &str, n: usize) {
    for _ in 0..n {
        shop.publish(&shop.event(kind, body)).await;
    }
}

/// Leaves what dispatchers that have gone leave in the counts: a mark for each removed key. NATS reads at most 1,024 keys
/// at once.
async fn leave_marks(shop: &Shop<'_>, uid: &str, n: usize) {
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let bucket = jetstream.get_key_value(HEALTH_BUCKET).await.unwrap();
    let keys = (0..n).map(|n| health_key(&SubscriptionUid::parse(uid).unwrap(), &format!("{n:016x}")));
    let marks = stream::iter(keys).map(|key| bucket.delete(key)).buffer_unordered(64);
    marks.try_for_each(async |()| Ok(())).await.unwrap();
}

/// Publishes events that fail at endpoints that [`picky`] made, each between two that succeed: so the endpoint counts as
/// well.
async fn publish_poison(shop: &Shop<'_>, kind: &str, body: &str, n: usize) {
    for _ in 0..n {
        publish(shop, kind, GOOD, 2).await;
        publish(shop, kind, body, 1).await;
    }
}

/// Has a path refuse everything but good events.
fn picky(shop: &Shop<'_>, path: &str) {
    let answer = |request: &Received| Answer::status(if &request.body[..] == GOOD.as_bytes() { 200 } else { 503 });
    shop.receiver.script(path, answer);
}

#[tokio::test]
async fn a_subscription_parks_up_to_its_quota_and_the_rest_is_given_up() {
    let _machine = beside().await;
    let quota = json!({ "parking": { "quota": { "deliveries": QUOTA, "bytes": 100_000 } } });
    let world = World::start(Options { dispatcher: quota.clone(), ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    picky(&shop, "/down");
    let uid = shop.subscribe("down", &["small"], fixed("1h")).await;
    shop.subscribe("up", &["small"], json!({})).await;
    leave_marks(&shop, &uid, 1_100).await;

    publish_poison(&shop, "small", "{}", 100).await;
    assert_eq!(settled(&shop, "down", 100).await, (QUOTA, 80));
    let (letter, _) = shop.dead_letter(&uid).await;
    assert_eq!((letter.reason, letter.progress.attempts), (DeadLetterReason::RetryQuotaExceeded, 1));

    // Another incarnation, and then another dispatcher, which have parked nothing yet.
    assert!(world.dispatchers[0].terminate().await.unwrap().success());
    world.dispatchers[0].restart().unwrap();
    world.dispatchers[0].wait_ready(SOON).await.unwrap();
    publish_poison(&shop, "small", "{}", 30).await;
    let (parked, _) = settled(&shop, "down", 130).await;
    assert!((QUOTA..=QUOTA + UNSEEN).contains(&parked), "{parked} wait");
    let second = Dispatcher::spawn(world.folder(), "second", &world.nats, &world.sealing, &quota).unwrap();
    second.wait_ready(SOON).await.unwrap();
    publish_poison(&shop, "small", "{}", 60).await;
    let (parked, _) = settled(&shop, "down", 190).await;
    assert!((QUOTA..=QUOTA + 2 * UNSEEN).contains(&parked), "{parked} wait");

    // The bytes count, too: three of these fit in, and a fourth begins below the quota.
    picky(&shop, "/large");
    shop.subscribe("large", &["large"], fixed("1h")).await;
    second.terminate().await.unwrap();
    publish_poison(&shop, "large", &"x".repeat(30_000), 10).await;
    assert_eq!(settled(&shop, "large", 10).await, (4, 6));

    // The endpoint goes away while the quota is used up: only what fails until the breaker opens is given up.
    let before = total(&world, "dead_letters_total").await;
    shop.receiver.answer("/down", Answer::status(503));
    publish(&shop, "small", "{}", 60).await;
    shop.status("down", "failing", |status| condition(status, "Delivering")["reason"] == "EndpointFailing").await;
    shop.all_acked(SOON).await;
    let given_up = total(&world, "dead_letters_total").await - before;
    assert!(given_up < FAILURES as u64, "{given_up} were given up");
    delivered(&shop, "/up", 3 * 190 + 60).await;
}

/// Subscriptions `<path>-0` and so on, of all events, to one path.
async fn subscribe_many(shop: &Shop<'_>, path: &str, n: usize, retry: Value) {
    let mut spec = shop.shared_key().await;
    merge(&mut spec, retry);
    merge(&mut spec, json!({ "endpoint": { "url": shop.receiver.url(&format!("/{path}")) } }));
    let object = |n| shop.subscription(&format!("{path}-{n}"), &[">"], spec.clone());
    shop.subscribe_all((0..n).map(object).collect()).await;
}

/// Sums a counter over all dispatchers, whatever its labels.
async fn total(world: &World, name: &str) -> u64 {
    let mut sum = 0;
    for dispatcher in &world.dispatchers {
        sum += metric(&dispatcher.metrics().await.unwrap(), &format!("hookwright_dispatcher_{name}{{"));
    }
    sum
}

#[tokio::test]
async fn a_tenant_with_many_dead_endpoints_leaves_room_for_others_and_loses_nothing() {
    const BUDGET: u64 = 8 << 20;
    const DEAD: usize = 25;
    const EVENTS: usize = 100;
    const FLAKY: usize = 5;
    let _machine = beside().await;
    // Whole quotas of all would let in the whole budget.
    let settings = json!({ "parking": { "budget": BUDGET, "quota": { "bytes": BUDGET / DEAD as u64 } } });
    let options = Options { dispatchers: 2, dispatcher: settings, ..Options::default() };
    let world = World::start(options).await.unwrap();
    let (hostile, other) = (Shop::open(&world, json!({})).await, Shop::open(&world, json!({})).await);
    hostile.receiver.answer("/dead", Answer::status(503));
    subscribe_many(&hostile, "dead", DEAD, fixed("1h")).await;
    other.receiver.fail_first("/flaky", FLAKY, Answer::status(503));
    other.subscribe("flaky", &["small"], fixed("2s")).await;
    other.subscribe("up", &["small"], json!({})).await;

    let body = "x".repeat(4_000);
    tokio::join!(publish(&hostile, "large", &body, EVENTS), publish(&other, "small", "{}", 10));
    hostile.all_acked(SOON).await;
    publish(&other, "small", "{}", 20).await;
    for path in ["/up", "/flaky"] {
        delivered(&other, path, 30).await;
    }
    other.status("flaky", "nothing to wait", |status| status["delivery"]["retrying"] == 0).await;
    let status = other.status("flaky", "all counted", |status| status["delivery"]["delivered"] == 30).await;
    assert_eq!((&status["delivery"]["deadLettered"], other.receiver.count("/flaky")), (&json!(0), 30 + FLAKY));
    let (parked, tried) = (total(&world, "parked_total").await, hostile.receiver.count("/dead"));
    println!("{parked} of {} were parked, after {tried} requests", DEAD * EVENTS);
    assert!(parked < (DEAD * EVENTS) as u64, "{parked}: most stay in the stream");

    hostile.receiver.answer("/dead", Answer::status(200));
    wait_for("all to arrive", 2 * SOON, async || {
        let seen = hostile.deliveries("/dead").len();
        anyhow::ensure!(seen == DEAD * EVENTS, "{seen}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(total(&world, "dead_letters_total").await, 0);
}

#[tokio::test]
async fn what_a_slow_endpoint_does_not_take_in_time_stays_in_the_stream() {
    // Its own reader takes all of them in hand.
    const EVENTS: usize = 60;
    let _machine = beside().await;
    let settings = json!({ "lane": { "inFlight": 1, "waiting": 0 }, "parking": { "quota": { "deliveries": 5 } } });
    let world = World::start(Options { dispatcher: settings, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    // So slow that one answer takes until the status was seen.
    let gate = Gate::closed();
    shop.receiver.answer("/slow", Answer::status(200).once_open(&gate));
    shop.subscribe("slow", &["small"], json!({ "delivery": { "timeout": "30s" } })).await;
    publish(&shop, "small", "{}", EVENTS).await;
    // Some are parked without an attempt.
    let seen = |status: &Value| {
        let delivery = &status["delivery"];
        !delivery["behind"].is_null() && delivery["waiting"].as_u64() > Some(0)
    };
    let status = shop.status("slow", "behind", seen).await;
    assert_eq!(status["delivery"]["behind"]["reason"], "EndpointSlow");
    gate.open();
    // One that was under way when the Subscription went behind may come twice.
    wait_for("all to arrive", 2 * SOON, async || {
        let seen = shop.deliveries("/slow").len();
        anyhow::ensure!(seen == EVENTS, "{seen}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(total(&world, "dead_letters_total").await, 0);
}

#[tokio::test]
async fn beyond_its_deadline_a_delivery_that_never_finds_a_place_is_given_up() {
    let _machine = beside().await;
    let lane = json!({ "lane": { "inFlight": 1, "waiting": 0 } });
    let world = World::start(Options { dispatcher: lane, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    // The only place is taken for 30 s.
    once_in_three("no place", async |n| no_place(&shop, &format!("busy-{n}")).await).await;
}

/// Takes the only place of a Subscription of this name, and lets two deliveries look for one. An error says that the place
/// was free too soon.
async fn no_place(shop: &Shop<'_>, name: &str) -> anyhow::Result<()> {
    shop.receiver.answer(&format!("/{name}"), Answer::hang());
    let uid = shop.subscribe(name, &[name], json!({ "delivery": { "timeout": "30s" } })).await;
    shop.publish(&shop.event(name, "{}")).await;
    let taken = shop.requests(name, 1).await[0].at;

    let subscription = SubscriptionUid::parse(&uid).unwrap();
    let deadline = Some(Timestamp::now() - SignedDuration::from_hours(1));
    for parks in [LAST_CHANCES - 1, LAST_CHANCES] {
        shop.publish_due(&subscription, 1, Progress { parks, deadline, ..Progress::default() }).await;
    }
    let (letter, _) = shop.dead_letter(&uid).await;
    // The other one waits for its last chance.
    let status =
        shop.status(name, "one given up", |status| status["delivery"]["deadLettered"].as_u64() > Some(0)).await;
    anyhow::ensure!(taken.elapsed() < Duration::from_secs(30), "{letter:?}");
    assert_eq!((letter.reason, letter.progress.parks), (DeadLetterReason::DeadlineExceeded, LAST_CHANCES));
    assert_eq!((&status["delivery"]["deadLettered"], shop.receiver.count(&format!("/{name}"))), (&json!(1), 1));
    Ok(())
}
