//! What becomes of a stream under a Producer: events that go before they are received, a stream in place of another.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_nats::jetstream::stream::{Config, State};
use hookwright_core::nats::names::{STATE_BUCKET, checkpoint_key};
use hookwright_core::record::{self, Checkpoint};
use hookwright_e2e::{Event, Options, Received, User, World, wait_for};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, beside, condition, shared};
use crate::status::kstatus;

async fn state(shop: &Shop<'_>, name: &str) -> State {
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let mut stream = jetstream.get_stream(format!("{}_{name}", shop.namespace)).await.unwrap();
    stream.info().await.unwrap().state.clone()
}

async fn producer(shop: &Shop<'_>, name: &str) -> Value {
    shop.world.control_plane.get(&shop.namespace, "producers", name).await.unwrap()
}

/// Waits until the operator's checkpoint of the Producer is as `check` wants it.
async fn checkpoint(shop: &Shop<'_>, name: &str, what: &str, check: impl Fn(&Checkpoint) -> bool) -> Checkpoint {
    let uid = producer(shop, name).await["metadata"]["uid"].as_str().unwrap().to_owned();
    let key = checkpoint_key(&uid.try_into().unwrap());
    let bucket = shop.world.nats.jetstream(User::Admin).await.unwrap().get_key_value(STATE_BUCKET).await.unwrap();
    wait_for(what, SOON, async || {
        let value = bucket.get(&key).await?.unwrap_or_default();
        let checkpoint = record::decode::<Checkpoint>(&value)?;
        anyhow::ensure!(check(&checkpoint), "{checkpoint:?}");
        Ok(checkpoint)
    })
    .await
    .unwrap()
}

/// Waits until the operator has looked, and up to this sequence everything is settled.
async fn looked_at(shop: &Shop<'_>, name: &str, sequence: u64) -> Checkpoint {
    let there = |c: &Checkpoint| c.position.as_ref().is_some_and(|position| position.passed >= sequence);
    checkpoint(shop, name, "a look", there).await
}

async fn told(shop: &Shop<'_>, name: &str, kind: &str, start: &str) -> Value {
    let check = |object: &Value| {
        let found = condition(&object["status"], kind);
        found["status"] == "True" && found["message"].as_str().unwrap_or_default().starts_with(start)
    };
    let plane = &shop.world.control_plane;
    // Numbers in status are written within seconds, as far as the budget of status writes allows.
    plane.wait_until(&shop.namespace, "producers", name, &format!("{kind} {start}"), SOON, check).await.unwrap()
}

async fn metric(world: &World, name: &str) -> u64 {
    let metrics = world.operator.metrics().await.unwrap();
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

async fn publish(shop: &Shop<'_>, token: &str, bodies: std::ops::Range<usize>) {
    for n in bodies {
        let body = format!("{n:04}{}", "x".repeat(1000));
        shop.publish(&Event::new(format!("{}.{token}.a", shop.namespace), body)).await;
    }
}

/// The numbers that the bodies at a path begin with.
fn numbers(shop: &Shop<'_>, path: &str) -> BTreeSet<usize> {
    let number = |request: &Arc<Received>| std::str::from_utf8(&request.body[..4]).unwrap().parse().unwrap();
    shop.receiver.requests(path).iter().map(number).collect()
}

/// The same; each may be there once.
fn received(shop: &Shop<'_>, path: &str) -> BTreeSet<usize> {
    let numbers = numbers(shop, path);
    assert_eq!(numbers.len(), shop.receiver.count(path), "each once");
    numbers
}

/// The body with number n has sequence n + 1.
#[tokio::test]
async fn events_that_go_unreceived_are_counted_and_those_that_went_later_are_not() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({ "stream": { "maxBytes": "64Ki" } })).await;
    let window = |age: &str| json!({ "stream": { "maxAge": age, "duplicateWindow": "1s" } });
    shop.produce("aged", "aged", window("1h")).await;
    existing(&shop).await;
    shop.subscribe("all", &[">"], json!({})).await;
    for name in ["aged", "mixed"] {
        shop.subscribe(name, &[">"], json!({ "producerRef": { "name": name } })).await;
    }

    // The stream turns over five times, and everything is delivered.
    for n in 0..30 {
        publish(&shop, "events", n * 10..n * 10 + 10).await;
        shop.requests("all", n * 10 + 10).await;
    }
    publish(&shop, "aged", 0..10).await;
    publish(&shop, "mixed.ours", 0..10).await;
    shop.requests("aged", 10).await;
    shop.requests("mixed", 10).await;
    assert!(state(&shop, "orders").await.first_sequence > 200, "old ones go");
    looked_at(&shop, "orders", 300).await;
    looked_at(&shop, "aged", 10).await;
    // Only now that they are received they may go, however slow the machine is.
    shop.produce("aged", "aged", window("2s")).await;
    wait_for("those to go", SOON, async || {
        let left = state(&shop, "aged").await.messages;
        anyhow::ensure!(left == 0, "{left} are there");
        Ok(())
    })
    .await
    .unwrap();
    publish(&shop, "mixed.theirs", 0..200).await;
    looked_at(&shop, "mixed", 210).await;
    for name in ["orders", "aged", "mixed"] {
        assert!(condition(&producer(&shop, name).await["status"], "EventsLost").is_null(), "{name}");
    }
    assert_eq!(metric(&world, "hookwright_operator_events_lost_total").await, 0);

    // Nobody reads.
    world.dispatchers[0].terminate().await.unwrap();
    publish(&shop, "events", 300..400).await;
    publish(&shop, "aged", 10..40).await;
    publish(&shop, "mixed.ours", 10..60).await;
    publish(&shop, "mixed.theirs", 200..280).await;
    let lost = state(&shop, "orders").await.first_sequence - 301;
    assert!((20..90).contains(&lost), "{lost}");
    let found = told(&shop, "orders", "EventsLost", &format!("{lost} events were removed")).await;
    assert_eq!(condition(&found["status"], "EventsLost")["reason"], "EventsLost");
    assert_eq!(condition(&found["status"], "Ready")["status"], "True", "what is published now is kept");
    assert_eq!(kstatus(&world.tools, &found).await, "Current");
    told(&shop, "aged", "EventsLost", "30 events were removed").await;
    // Sequences 211 to 240 have gone, all of them ours as it happens.
    told(&shop, "mixed", "EventsLost", "Up to 30 events were removed").await;
    let events = ["get", "events", "-n", &shop.namespace, "-o", "json", "--field-selector=reason=EventsLost"];
    let events: Value = serde_json::from_str(&world.control_plane.kubectl(&events).await.unwrap()).unwrap();
    let removed = |event: &Value| event["message"].as_str().is_some_and(|message| message.contains("were removed"));
    let warned = |event: &Value| event["type"] == "Warning" && removed(event);
    assert!(events["items"].as_array().unwrap().iter().filter(|event| warned(event)).count() >= 3, "{events}");

    // More of them go, another operator looks at what is left, and then someone reads again, faster than it looks.
    publish(&shop, "events", 400..440).await;
    world.operator.restart().unwrap();
    world.operator.wait_ready(SOON).await.unwrap();
    publish(&shop, "events", 440..460).await;
    let first = usize::try_from(state(&shop, "orders").await.first_sequence).unwrap();
    world.dispatchers[0].restart().unwrap();
    shop.receiver.wait_count("/all", 300 + 460 - (first - 1), SOON).await.unwrap();
    let got = received(&shop, "/all");
    let missing: Vec<usize> = (0..460).filter(|n| !got.contains(n)).collect();
    let lost = missing.len() as u64;
    assert_eq!((missing.first(), missing.last()), (Some(&300), Some(&(299 + missing.len()))), "from the front");
    let after = looked_at(&shop, "orders", 460).await;
    assert_eq!(after.loss.map(|loss| (loss.events, loss.exact)), Some((lost, true)));
    told(&shop, "orders", "EventsLost", &format!("{lost} events were removed")).await;
    println!("{lost} of 460 events went unreceived, and were counted");
}

/// A stream of at most 100 messages that someone else made, of which the Producer `mixed` reads `mixed.ours.>`.
async fn existing(shop: &Shop<'_>) {
    let name = format!("{}_mixed", shop.namespace);
    let subjects = vec![format!("{}.mixed.>", shop.namespace)];
    let num_replicas = shop.world.nats.replicas();
    let config = Config { name: name.clone(), subjects, num_replicas, max_messages: 100, ..Config::default() };
    shop.world.nats.jetstream(User::Admin).await.unwrap().create_stream(config).await.unwrap();
    let ours = format!("{}.mixed.ours.>", shop.namespace);
    shop.produce("mixed", "mixed", json!({ "subjects": [ours], "stream": { "policy": "Existing" } })).await;
}

#[tokio::test]
async fn a_stream_in_place_of_another_is_told_of_and_read_from_its_first_event() {
    let (shop, _machine) = shared().await;
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    existing(&shop).await;
    shop.subscribe("managed", &[">"], json!({})).await;
    shop.subscribe("mixed", &[">"], json!({ "producerRef": { "name": "mixed" } })).await;
    publish(&shop, "events", 0..5).await;
    publish(&shop, "mixed.ours", 0..5).await;
    for (name, path) in [("orders", "managed"), ("mixed", "mixed")] {
        shop.requests(path, 5).await;
        looked_at(&shop, name, 5).await;
    }

    // The operator makes its own anew; of the other there is a new one before anyone notices.
    for name in ["orders", "mixed"] {
        jetstream.delete_stream(format!("{}_{name}", shop.namespace)).await.unwrap();
    }
    let name = format!("{}_mixed", shop.namespace);
    let (subjects, num_replicas) = (vec![format!("{}.mixed.>", shop.namespace)], shop.world.nats.replicas());
    let config = Config { name, subjects, num_replicas, ..Config::default() };
    jetstream.create_stream(config).await.unwrap();
    publish(&shop, "mixed.ours", 5..10).await;
    for n in 5..10 {
        let event = Event::new(format!("{}.events.a", shop.namespace), format!("{n:04}"));
        shop.publisher.publish_through_faults(&event, SOON).await.unwrap();
    }
    for (name, path) in [("orders", "/managed"), ("mixed", "/mixed")] {
        // The world is shared with tests that fill the storage: an ack may be late, and an event comes twice then.
        wait_for("all to arrive", SOON, async || {
            let numbers = numbers(&shop, path);
            anyhow::ensure!(numbers == (0..10).collect(), "{name}: {numbers:?}");
            Ok(())
        })
        .await
        .unwrap();
        let requests = shop.receiver.requests(path);
        let ids: BTreeSet<_> = requests.iter().map(|request| request.header("webhook-id").to_owned()).collect();
        assert_eq!(ids.len(), 10, "{name}: sequences 1 to 5 twice, and other ids");
        let found = told(&shop, name, "StreamReplaced", "At 20").await;
        assert_eq!(condition(&found["status"], "Ready")["status"], "True");
        assert!(condition(&found["status"], "EventsLost").is_null(), "{name}: {found}");
        assert_eq!(kstatus(&shop.world.tools, &found).await, "Current");
    }
    assert!(metric(shop.world, "hookwright_operator_streams_replaced_total").await >= 2);
}
