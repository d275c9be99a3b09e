//! Due deliveries that can't be handled now: they wait, and keep nobody else's waiting. Each test has a world of its own.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{FromConsumer, pull};
use async_nats::jetstream::stream;
use hookwright_core::delivery::progress::Progress;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{
    CONFIG_BUCKET, DUE_CONSUMER, PARKED_AT_SUBJECTS, PARKED_DUE_SUBJECTS, PARKED_STREAM, POSITIONS_BUCKET,
};
use hookwright_e2e::{Answer, Options, User, World, by_length, report, wait_for};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, TIMEOUT, beside, fixed, metric, once_in_three};

/// What waits of the tenant whose Producer no dispatcher serves, and how much of all the consumer lets be unacked.
fn stuck() -> (usize, i64) {
    by_length((600, 300), (51_000, 50_000))
}

const OTHERS: usize = 100;

#[tokio::test]
async fn one_tenants_due_deliveries_that_cant_be_handled_keep_no_others_waiting() {
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let (barred, other) = (Shop::open(&world, json!({})).await, Shop::open(&world, json!({})).await);
    let stuck_uid = SubscriptionUid::parse(&barred.subscribe("stuck", &["a"], json!({})).await).unwrap();
    let suspended = barred.subscribe("suspended", &[">"], json!({ "suspend": true })).await;
    let suspended = SubscriptionUid::parse(&suspended).unwrap();
    let other_uid = SubscriptionUid::parse(&other.subscribe("other", &[">"], json!({})).await).unwrap();
    // From here on the consumer and the config are what this test makes of them.
    world.operator.freeze().unwrap();
    let (stuck, unacked) = stuck();
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let parked = jetstream.get_stream(PARKED_STREAM).await.unwrap();
    let config = parked.get_consumer::<pull::Config>(DUE_CONSUMER).await.unwrap().cached_info().config.clone();
    let config = pull::Config::try_from_consumer_config(config).unwrap();
    parked.update_consumer(pull::Config { max_ack_pending: unacked, ..config }).await.unwrap();
    let bucket = jetstream.get_key_value(CONFIG_BUCKET).await.unwrap();

    // A newer release has written the position of a Subscription that is suspended.
    let waiting = stuck.min(3_000);
    let positions = world.nats.jetstream(User::Dispatcher).await.unwrap();
    let positions = positions.get_key_value(POSITIONS_BUCKET).await.unwrap();
    positions.put(suspended.as_str(), r#"{"version": 2}"#.into()).await.unwrap();
    barred.publish_all_due(&suspended, 1, &Progress::default(), waiting).await;
    other.publish_all_due(&other_uid, 1, &Progress::default(), OTHERS).await;
    other.receiver.wait_count("/other", OTHERS, 2 * SOON).await.unwrap();
    // Nor does it hold an event, which others may want.
    barred.publish(&barred.event("b", "new")).await;
    barred.all_acked(SOON).await;
    positions.delete(suspended.as_str()).await.unwrap();

    // No dispatcher serves the Producer.
    let key = format!("subscription.{}.newer", barred.producer().await);
    let revision = bucket.put(&key, r#"{"version": 2}"#.into()).await.unwrap();
    for dispatcher in &world.dispatchers {
        wait_for("the Producer to be barred", SOON, async || {
            let unreadable = metric(&dispatcher.metrics().await?, "hookwright_dispatcher_unreadable_records");
            anyhow::ensure!(unreadable == 1, "{unreadable}");
            Ok(())
        })
        .await
        .unwrap();
    }

    barred.publish_all_due(&stuck_uid, revision, &Progress::default(), stuck).await;
    let start = Instant::now();
    other.publish_all_due(&other_uid, revision, &Progress::default(), OTHERS).await;
    other.receiver.wait_count("/other", 2 * OTHERS, 2 * SOON).await.unwrap();
    report(&format!("{OTHERS} due deliveries beside {stuck} that can't be handled: all came in {:?}", start.elapsed()));
    assert_eq!((barred.receiver.count("/stuck"), barred.receiver.count("/suspended")), (0, 0));

    // Nothing of what waited is lost.
    bucket.delete(&key).await.unwrap();
    barred.receiver.wait_count("/stuck", stuck, Duration::from_secs(300)).await.unwrap();
    world.operator.thaw().unwrap();
    barred.subscribe("suspended", &[">"], json!({ "suspend": false })).await;
    barred.receiver.wait_count("/suspended", waiting + 1, Duration::from_secs(300)).await.unwrap();
}

/// How many deliveries are to be parked of which NATS says nothing. A client lets 5,000 wait for their answer.
fn unanswered() -> usize {
    by_length(6_000, 12_000)
}

/// While a stream has no leader, whatever is to be stored in it waits. The leases have a connection and a window of their
/// own, so the events of all others are delivered meanwhile.
#[tokio::test]
async fn stores_that_get_no_answer_keep_no_lease_from_being_renewed() {
    let _machine = beside().await;
    let dispatcher = json!({ "limits": { "heldEvents": 8 * unanswered() } });
    let world = World::start(Options { dispatcher, ..Options::default() }).await.unwrap();
    let (barred, other) = (Shop::open(&world, json!({})).await, Shop::open(&world, json!({})).await);
    let stuck = SubscriptionUid::parse(&barred.subscribe("stuck", &["a"], json!({})).await).unwrap();
    other.subscribe("other", &[">"], json!({})).await;
    // From here on the streams and the config are what this test makes of them.
    world.operator.freeze().unwrap();
    let dispatcher = &world.dispatchers[0];
    assert!(dispatcher.terminate().await.unwrap().success());
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let bucket = jetstream.get_key_value(CONFIG_BUCKET).await.unwrap();
    let key = format!("subscription.{}.newer", barred.producer().await);
    let revision = bucket.put(&key, r#"{"version": 2}"#.into()).await.unwrap();
    barred.publish_all_due(&stuck, revision, &Progress::default(), unanswered()).await;
    // Another stream takes what is to be parked, and answers nobody.
    let parked = jetstream.get_stream(PARKED_STREAM).await.unwrap();
    let config = parked.cached_info().config.clone();
    let due_alone = stream::Config { subjects: vec![PARKED_DUE_SUBJECTS.to_owned()], ..config };
    jetstream.update_stream(&due_alone).await.unwrap();
    let subjects = vec![PARKED_AT_SUBJECTS.to_owned()];
    let silent = stream::Config { name: "SILENT".to_owned(), subjects, no_ack: true, ..stream::Config::default() };
    jetstream.create_stream(silent).await.unwrap();

    dispatcher.restart().unwrap();
    dispatcher.wait_ready(SOON).await.unwrap();
    wait_for("all to be in hand", 2 * SOON, async || {
        let consumer =
            parked.get_consumer::<pull::Config>(DUE_CONSUMER).await.map_err(|error| anyhow::anyhow!(error))?;
        let in_hand = consumer.cached_info().num_ack_pending;
        anyhow::ensure!(in_hand == unanswered(), "{in_hand}");
        Ok(())
    })
    .await
    .unwrap();
    let lapses = || dispatcher.logs().matches("the lease has lapsed").count();
    let mut published = 0;
    once_in_three("no lease lapses", async |_| {
        let (start, before) = (Instant::now(), lapses());
        // Several times as long as a lease is trusted.
        while start.elapsed() < Duration::from_secs(15) {
            other.publish(&other.event("a", published.to_string())).await;
            published += 1;
            other.requests("other", published).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::ensure!(lapses() == before, "{} lapses", lapses() - before);
        Ok(())
    })
    .await;
    report(&format!("{published} events beside {} stores without an answer: all came", unanswered()));
    assert_eq!(barred.receiver.count("/stuck"), 0);
}

/// `kubectl replace --force` deletes the Producer and makes another one of the same name. Its Subscriptions stay.
#[tokio::test]
async fn a_producer_that_is_replaced_while_retries_are_due_drops_none() {
    const EVENTS: usize = 200;
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({ "stream": { "deletionPolicy": "Delete" } })).await;
    shop.receiver.answer("/down", Answer::status(503));
    // At most 100 attempts are made: they have to last for as long as a slow machine takes to replace the Producer.
    let uid = SubscriptionUid::parse(&shop.subscribe("down", &[">"], fixed("4s")).await).unwrap();
    shop.publish_all_due(&uid, 1, &Progress::default(), EVENTS).await;
    // The breaker opens, and the rest waits.
    shop.receiver.wait_count("/down", 10, SOON).await.unwrap();

    let before = world.control_plane.get(&shop.namespace, "producers", "orders").await.unwrap();
    let mut again = before.clone();
    again["metadata"] = json!({ "name": "orders", "namespace": shop.namespace });
    again["status"].take();
    let replace = ["replace", "--force", TIMEOUT, "-f", "-"];
    world.control_plane.kubectl_stdin(&replace, &again.to_string()).await.unwrap();
    let after = world.wait_ready(&shop.namespace, "producers", "orders").await.unwrap();
    let uid = |producer: &Value| producer["metadata"]["uid"].clone();
    assert_ne!(uid(&before), uid(&after));
    shop.receiver.answer("/down", Answer::status(200));
    wait_for("all to arrive", 2 * SOON, async || {
        let requests = shop.receiver.requests("/down");
        let seen: HashSet<&str> = requests.iter().filter(|r| r.succeeded()).map(|r| r.webhook_id()).collect();
        anyhow::ensure!(seen.len() == EVENTS, "{}", seen.len());
        Ok(())
    })
    .await
    .unwrap();
    let (dropped, dead) = (count(&world, "dropped_total").await, count(&world, "dead_letters_total").await);
    assert_eq!((dropped, dead), (0, 0), "dropped, given up");
}

/// The sum of a counter over all dispatchers.
async fn count(world: &World, name: &str) -> u64 {
    let mut sum = 0;
    for dispatcher in &world.dispatchers {
        sum += metric(&dispatcher.metrics().await.unwrap(), &format!("hookwright_dispatcher_{name}"));
    }
    sum
}
