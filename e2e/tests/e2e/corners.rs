//! The protocol's corners: restarts, pauses, and what others do to our streams. Each has a world of its own.

mod clock;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use hookwright_core::delivery::progress::Progress;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey, deleted_key};
use hookwright_core::record::{Deleted, VERSION, encode};
use hookwright_e2e::{Answer, Gate, Options, Received, User, World, is_long, wait_for};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::schemas::{declare, schema};
use crate::shop::{SOON, Shop, beside, condition, metric, once_in_three};

async fn world() -> World {
    World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap()
}

/// Publishes 200 events/s of this type with bodies 0, 1, 2 ... until `stop`; returns how many.
pub(crate) async fn publish_until(shop: &Shop<'_>, kind: &str, stop: &CancellationToken) -> usize {
    let mut tick = interval(Duration::from_millis(5));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut n = 0;
    while !stop.is_cancelled() {
        tick.tick().await;
        shop.publish(&shop.event(kind, n.to_string())).await;
        n += 1;
    }
    n
}

/// How often each body reached a path.
pub(crate) fn receipts(shop: &Shop<'_>, path: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for request in shop.receiver.requests(path) {
        *counts.entry(String::from_utf8_lossy(&request.body).into_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_rolling_restart_under_load_loses_and_repeats_nothing() {
    let _machine = beside().await;
    let world = world().await;
    let shop = Shop::open(&world, json!({})).await;
    // What a dispatcher has without a sign of life for 6 s comes again.
    once_in_three("nothing comes twice", async |n| {
        let name = format!("all-{n}");
        shop.subscribe(&name, &[&name], json!({})).await;
        let twice = rolling_restart(&shop, &name).await;
        anyhow::ensure!(twice.is_empty(), "{twice:?}");
        Ok(())
    })
    .await;
}

/// Restarts the dispatchers one by one, while events of the type `name` come in for the Subscription `name`. Returns those
/// that came more than once.
async fn rolling_restart(shop: &Shop<'_>, name: &str) -> Vec<(String, usize)> {
    let (stop, path) = (CancellationToken::new(), format!("/{name}"));
    let roll = async {
        for dispatcher in &shop.world.dispatchers {
            let before = shop.receiver.count(&path);
            shop.receiver.wait_count(&path, before + 400, SOON).await.unwrap();
            assert!(dispatcher.terminate().await.unwrap().success());
            dispatcher.restart().unwrap();
            dispatcher.wait_ready(SOON).await.unwrap();
        }
        stop.cancel();
    };
    let (published, ()) = tokio::join!(publish_until(shop, name, &stop), roll);
    each_arrived(shop, &path, 0..published).await;
    let twice: Vec<_> = receipts(shop, &path).into_iter().filter(|(_, n)| *n > 1).collect();
    println!("rolling restart: {published} events, none lost, {} repeated", twice.len());
    twice
}

/// Waits until each of the bodies 0, 1, 2 ... has reached a path; one may come twice.
pub(crate) async fn each_arrived(shop: &Shop<'_>, path: &str, bodies: std::ops::Range<usize>) {
    wait_for(&format!("each event at {path}"), SOON, async || {
        let events = receipts(shop, path);
        let missing = bodies.clone().filter(|n| !events.contains_key(&n.to_string())).count();
        anyhow::ensure!(missing == 0, "{missing} of {bodies:?} are missing");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_dispatcher_that_was_paused_past_its_lease_serves_nothing_by_its_old_index() {
    const BURST: usize = 3_000;
    let _machine = beside().await;
    // Nothing but the work itself keeps what was read from being attempted.
    let dispatcher = json!({ "limits": { "inFlight": 4096 }, "lane": { "inFlight": 1024 } });
    let timeout = json!({ "delivery": { "timeout": "30s" } });
    let world = World::start(Options { dispatchers: 2, dispatcher, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("edited", &[">"], timeout.clone()).await;
    // Both are paused while events gather, so that one can be paused again in the middle of them.
    world.dispatchers.iter().for_each(|dispatcher| dispatcher.freeze().unwrap());
    let events = stream::iter((0..BURST).map(|n| shop.event("a", n.to_string())));
    events.for_each_concurrent(64, async |event| shop.publish(&event).await).await;
    // No attempt ends before the one is paused.
    let (gate, paused) = (Gate::closed(), &world.dispatchers[0]);
    shop.receiver.answer("/edited", Answer::status(200).once_open(&gate));
    world.dispatchers.iter().for_each(|dispatcher| dispatcher.thaw().unwrap());
    wait_for("attempts of the one to be paused", SOON, async || {
        let under_way = metric(&paused.metrics().await?, "hookwright_dispatcher_in_flight");
        anyhow::ensure!(under_way > 0 && shop.receiver.count("/edited") > 0, "{under_way}");
        Ok(())
    })
    .await
    .unwrap();
    paused.freeze().unwrap();
    gate.open();
    let joined = || paused.logs().matches(" joined").count();
    let joined_before = joined();

    // What it had in hand comes again at the other one.
    each_arrived(&shop, "/edited", 0..BURST).await;
    shop.all_acked(SOON).await;
    let delivered = shop.consumer().await.unwrap().delivered;
    let in_hand = delivered.consumer_sequence - delivered.stream_sequence;
    assert!(in_hand > 0, "the paused one had nothing in hand");
    // The operator waits for the paused one until its lease is over, then Ready holds for those that are alive.
    let mut edit = timeout;
    edit["endpoint"] = json!({ "url": shop.receiver.url("/new") });
    shop.subscribe("edited", &[">"], edit).await;
    let (thawed, old) = (Timestamp::now().as_second(), shop.receiver.count("/edited"));
    paused.thaw().unwrap();
    wait_for("the paused one to have joined again", SOON, async || {
        anyhow::ensure!(joined() > joined_before, "{} times", joined());
        Ok(())
    })
    .await
    .unwrap();
    for n in BURST..BURST + 1_000 {
        shop.publish(&shop.event("a", n.to_string())).await;
    }
    each_arrived(&shop, "/new", BURST..BURST + 1_000).await;
    shop.all_acked(SOON).await;
    // An attempt that was under way when it was paused is finished; it is signed as of when it began.
    let requests = shop.receiver.requests("/edited");
    let signed = |request: &Received| request.header("webhook-timestamp").parse::<i64>().unwrap();
    let wrong = requests.iter().filter(|request| signed(request) >= thawed).count();
    println!("{in_hand} in hand, {} of them under way when it was paused", requests.len() - old);
    assert_eq!(wrong, 0, "attempts by the old index");
}

#[tokio::test]
async fn a_record_of_a_newer_version_stops_its_producer_and_no_other() {
    let _machine = beside().await;
    let world = world().await;
    let shop = Shop::open(&world, json!({})).await;
    let other = Shop::open(&world, json!({})).await;
    for shop in [&shop, &other] {
        shop.subscribe("all", &[">"], json!({})).await;
        declare(shop, &schema(shop, "typed", "typed", &[("1", json!({}))], json!({}))).await;
    }
    let producer = world.control_plane.get(&shop.namespace, "producers", "orders").await.unwrap();
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let bucket = jetstream.get_key_value(CONFIG_BUCKET).await.unwrap();
    let key = format!("subscription.{}.newer", producer["metadata"]["uid"].as_str().unwrap());
    bucket.put(&key, r#"{"version": 2, "anything": "else"}"#.into()).await.unwrap();
    for dispatcher in &world.dispatchers {
        wait_for("the record to be seen", SOON, async || {
            let metrics = dispatcher.metrics().await?;
            anyhow::ensure!(metrics.contains("hookwright_dispatcher_unreadable_records 1"));
            Ok(())
        })
        .await
        .unwrap();
        assert!(dispatcher.logs().contains("version 2"), "it says why");
    }
    let reason = |object: &Value| condition(&object["status"], "Ready")["reason"].clone();
    let all_say = async |shop: &Shop<'_>, wanted: &str| {
        for (plural, name) in [("producers", "orders"), ("subscriptions", "all"), ("eventschemas", "typed")] {
            let what = format!("{plural} to be {wanted}");
            let none = |object: &Value| {
                let message = condition(&object["status"], "Programmed")["message"].as_str().unwrap_or_default();
                message.starts_with("None of the 2 live dispatchers")
            };
            let check = |object: &Value| reason(object) == wanted && none(object) == (wanted == "Unserved");
            world.control_plane.wait_until(&shop.namespace, plural, name, &what, SOON, check).await.unwrap();
        }
    };
    let version = async |plural: &str, name: &str| {
        let object = world.control_plane.get(&shop.namespace, plural, name).await.unwrap();
        object["metadata"]["resourceVersion"].clone()
    };
    let versions = async || (version("producers", "orders").await, version("subscriptions", "all").await);
    // It is told again if a lease was renewed late.
    once_in_three("told once", async |_| {
        all_say(&shop, "Unserved").await;
        let (before, start) = (versions().await, Instant::now());
        // Longer than a Producer that is not Ready is left alone, and several renewals of the leases.
        while start.elapsed() < Duration::from_secs(7) {
            let now = versions().await;
            anyhow::ensure!(now == before, "{now:?} after {before:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    })
    .await;
    all_say(&other, "Ready").await;
    shop.publish(&shop.event("a", "held")).await;
    for n in 0..50 {
        other.publish(&other.event("a", n.to_string())).await;
    }
    other.requests("all", 50).await;
    assert_eq!(shop.receiver.count("/all"), 0);
    bucket.delete(&key).await.unwrap();
    all_say(&shop, "Ready").await;
    shop.requests("all", 1).await;
}

/// The sum of a counter over all dispatchers.
async fn count(world: &World, name: &str) -> u64 {
    let mut sum = 0;
    for dispatcher in &world.dispatchers {
        sum += metric(&dispatcher.metrics().await.unwrap(), &format!("hookwright_dispatcher_{name} "));
    }
    sum
}

#[tokio::test]
async fn a_parked_delivery_waits_for_config_that_its_dispatcher_has_not_loaded() {
    let _machine = beside().await;
    let world = world().await;
    let shop = Shop::open(&world, json!({})).await;
    let uid = SubscriptionUid::parse(&shop.subscribe("late", &[">"], json!({})).await).unwrap();
    let bucket = world.nats.jetstream(User::Admin).await.unwrap().get_key_value(CONFIG_BUCKET).await.unwrap();
    let key = ConfigKey::Subscription(shop.producer().await, uid.clone()).to_string();
    let record = bucket.get(&key).await.unwrap().unwrap();
    // From here on the config is what this test makes of it.
    world.operator.freeze().unwrap();
    let remove = async || {
        bucket.delete(&key).await.unwrap();
        let revision = bucket.entry(&key).await.unwrap().unwrap().revision;
        wait_for("all to have loaded it", SOON, async || {
            let loaded = count(&world, "config_revision").await;
            anyhow::ensure!(loaded == 2 * revision, "{loaded} of twice {revision}");
            Ok(())
        })
        .await
        .unwrap();
        revision
    };

    // To dispatchers that are behind, a Subscription that is about to come looks like one that has gone.
    let revision = remove().await;
    shop.publish_due(&uid, revision + 1, Progress::default()).await;
    let start = Instant::now();
    // Longer than a dispatcher waits, and until it comes again.
    while start.elapsed() < Duration::from_secs(12) {
        assert_eq!(count(&world, "dropped_total").await, 0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(shop.receiver.count("/late"), 0);
    assert_eq!(bucket.put(&key, record).await.unwrap(), revision + 1);
    shop.requests("late", 1).await;

    // A record that is missing means nothing: its Producer may be about to come again.
    let revision = remove().await;
    shop.publish_due(&uid, revision, Progress::default()).await;
    wait_for("it to be parked again", SOON, async || {
        let parked = count(&world, "parked_total{cause=\"subscription_absent\"}").await;
        anyhow::ensure!(parked > 0);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(count(&world, "dropped_total").await, 0);

    // Only one that was deleted is dropped.
    let deleted = encode(&Deleted { version: VERSION }).unwrap();
    bucket.put(deleted_key(&uid), deleted.into()).await.unwrap();
    wait_for("it to be dropped", SOON, async || {
        let dropped = count(&world, "dropped_total").await;
        anyhow::ensure!(dropped == 1, "{dropped}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(shop.receiver.count("/late"), 1);
}

#[tokio::test]
async fn a_shared_consumer_that_was_deleted_is_re_created_where_it_was() {
    let _machine = beside().await;
    let world = world().await;
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let stream = jetstream.get_stream(format!("{}_orders", shop.namespace)).await.unwrap();
    for n in 0..500 {
        shop.publish(&shop.event("a", n.to_string())).await;
    }
    shop.requests("all", 500).await;
    shop.all_acked(SOON).await;
    let before = receipts(&shop, "/all");
    let uid = world.control_plane.get(&shop.namespace, "producers", "orders").await.unwrap();
    let uid = uid["metadata"]["uid"].as_str().unwrap().to_owned();
    let state = jetstream.get_key_value(hookwright_core::nats::names::STATE_BUCKET).await.unwrap();
    wait_for("a checkpoint at 500", SOON, async || {
        let value = state.get(format!("checkpoint.{uid}")).await?.unwrap_or_default();
        anyhow::ensure!(String::from_utf8_lossy(&value).contains("\"ackFloor\":500"), "{value:?}");
        Ok(())
    })
    .await
    .unwrap();
    let name = stream.consumer_names().try_next().await.unwrap().unwrap();
    stream.delete_consumer(&name).await.unwrap();
    let deleted = Instant::now();
    for n in 500..600 {
        shop.publish(&shop.event("a", n.to_string())).await;
    }
    each_arrived(&shop, "/all", 0..600).await;
    println!("the shared consumer was back after {:?}", deleted.elapsed());
    assert!(!is_long() || deleted.elapsed() < Duration::from_secs(30), "{:?}", deleted.elapsed());
    shop.all_acked(SOON).await;
    let after = receipts(&shop, "/all");
    let again: Vec<_> = before.iter().filter(|(body, n)| after[*body] != **n).collect();
    assert!(again.is_empty(), "nothing from before comes again: {again:?}");
}
