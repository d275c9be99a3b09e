//! Dead letters that NATS refuses, and those for which their namespace has no room.

use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use futures::TryStreamExt;
use hookwright_core::delivery::dead_letter::{DEAD_LETTER_HEADER, DeadLetter};
use hookwright_core::nats::names::{DEAD_LETTER_STREAM, STATE_BUCKET, dead_delivery, dead_letter_bytes_key};
use hookwright_core::record::{DeadLetterBytes, decode};
use hookwright_e2e::{Answer, Options, User, World, wait_for};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cut_connections::{Raw, UNREADABLE};
use crate::shop::{SOON, Shop, beside, metric};
use crate::storage::{FILLER, fill, wait_full};

fn once() -> Value {
    json!({ "delivery": { "retry": { "maxAttempts": 1 } } })
}

/// Waits until that many dead letters were refused for this reason.
async fn refused(world: &World, reason: &str, n: u64, deadline: Duration) {
    let name = format!("hookwright_dispatcher_dead_letters_refused_total{{reason=\"{reason}\"}}");
    wait_for(&format!("{n} to be refused"), deadline, async || {
        let found = metric(&world.dispatchers[0].metrics().await?, &name);
        anyhow::ensure!(found == n, "{found} are");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_dead_letter_that_nats_refuses_becomes_a_reference_or_is_let_go() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.receiver.answer("/down", Answer::status(500));
    let uid = shop.subscribe("down", &[">"], once()).await;
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let limit = async |change: &dyn Fn(Config) -> Config| {
        let config = jetstream.get_stream(DEAD_LETTER_STREAM).await.unwrap().cached_info().config.clone();
        jetstream.update_stream(change(config)).await.unwrap();
    };

    // The operator would put the limits right.
    world.operator.freeze().unwrap();
    limit(&|config| Config { max_message_size: 2048, ..config }).await;
    shop.publish(&shop.event("a", "x".repeat(4096))).await;
    let (letter, body) = shop.dead_letter(&uid).await;
    assert!(letter.reference_only && body.is_empty(), "{letter:?}");
    refused(&world, "Refused", 0, SOON).await;

    // No room for another one, ever.
    limit(&|config| Config { max_messages: 1, discard: DiscardPolicy::New, ..config }).await;
    for _ in 0..3 {
        shop.publish(&shop.event("a", "{}")).await;
    }
    refused(&world, "Refused", 3, SOON).await;
    shop.all_acked(SOON).await;
    assert!(world.dispatchers[0].logs().contains(DEAD_LETTER_STREAM), "it says which limits to look at");

    world.operator.thaw().unwrap();
    shop.status("down", "four to be given up", |status| status["delivery"]["deadLettered"] == 4).await;
    wait_for("the limits to be put right", SOON, async || {
        let config = jetstream.get_stream(DEAD_LETTER_STREAM).await?.cached_info().config.clone();
        anyhow::ensure!(config.max_messages <= 0 && config.discard == DiscardPolicy::Old, "{config:?}");
        Ok(())
    })
    .await
    .unwrap();
    shop.publish(&shop.event("a", "kept")).await;
    wait_for("it to be kept", SOON, async || {
        let (letter, body) = shop.dead_letter(&uid).await;
        anyhow::ensure!(body == "kept", "{letter:?}");
        Ok(())
    })
    .await
    .unwrap();
    refused(&world, "Refused", 3, SOON).await;

    // Nor is an event kept that nobody can read. It is let go all the same, as it interrupts all who read.
    limit(&|config| Config { sealed: true, ..config }).await;
    let mut raw = Raw::connect(&world).await;
    for _ in 0..3 {
        raw.publish(&format!("{}.events.a", shop.namespace), UNREADABLE).await;
    }
    shop.publish(&shop.event("a", "readable")).await;
    wait_for("three to be let go", 2 * SOON, async || {
        let lost = metric(&world.operator.metrics().await?, "hookwright_operator_dead_letters_refused_total");
        anyhow::ensure!(lost == 3, "{lost} are");
        Ok(())
    })
    .await
    .unwrap();
    shop.all_acked(SOON).await;
    let events = shop.receiver.requests("/down");
    assert!(events.iter().any(|request| request.body == "readable"), "{}", events.len());
}

#[tokio::test]
async fn a_namespace_keeps_so_many_bytes_of_dead_letters_and_then_references() {
    let _machine = beside().await;
    let dispatcher = json!({ "parking": { "deadLetters": "40Ki" } });
    let world = World::start(Options { dispatchers: 2, dispatcher, ..Options::default() }).await.unwrap();
    // One that works, and one that knows only what the other has written.
    world.dispatchers[1].freeze().unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.receiver.answer("/down", Answer::status(500));
    let uid = shop.subscribe("down", &[">"], once()).await;
    let publish = async |n: usize| shop.publish(&shop.event("a", format!("{n}{}", "x".repeat(10_000)))).await;
    for n in 0..6 {
        publish(n).await;
    }
    shop.status("down", "all to be given up", |status| status["delivery"]["deadLettered"] == 6).await;
    assert_eq!(kept(&world, &uid).await, (4, 2));

    // Another namespace has room of its own.
    let other = Shop::open(&world, json!({})).await;
    other.receiver.answer("/down", Answer::status(500));
    let other_uid = other.subscribe("down", &[">"], once()).await;
    other.publish(&other.event("a", "x".repeat(10_000))).await;
    let letter = other.dead_letter(&other_uid).await.0;
    assert!(!letter.reference_only);
    assert_eq!(letter.name, Some(format!("{}/down", other.namespace)));

    wait_for("the bytes to be written", SOON, async || {
        let bucket = world.nats.jetstream(User::Admin).await?.get_key_value(STATE_BUCKET).await?;
        let value = bucket.get(dead_letter_bytes_key(&shop.namespace)).await?.context("nothing")?;
        let total: u64 = decode::<DeadLetterBytes>(&value)?.days.values().sum();
        anyhow::ensure!(total > 40_000, "{total}");
        Ok(())
    })
    .await
    .unwrap();
    world.dispatchers[0].freeze().unwrap();
    world.dispatchers[1].thaw().unwrap();
    publish(6).await;
    wait_for("one more reference", SOON, async || {
        let found = kept(&world, &uid).await;
        anyhow::ensure!(found == (4, 3), "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
    world.dispatchers[0].thaw().unwrap();
}

/// How many dead letters of a Subscription have their event, and how many are references.
async fn kept(world: &World, uid: &str) -> (usize, usize) {
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let stream = jetstream.get_stream(DEAD_LETTER_STREAM).await.unwrap();
    let subject = dead_delivery(&uid.to_owned().try_into().unwrap());
    let (mut whole, mut references, mut next) = (0, 0, 1);
    while let Ok(message) = stream.get_first_raw_message_by_subject(&subject, next).await {
        let letter: DeadLetter =
            serde_json::from_str(message.headers.get(DEAD_LETTER_HEADER).unwrap().as_str()).unwrap();
        *(if letter.reference_only { &mut references } else { &mut whole }) += 1;
        next = message.sequence + 1;
    }
    (whole, references)
}

#[tokio::test]
async fn a_dead_letter_waits_a_minute_for_room_and_then_holds_up_nothing() {
    let _machine = beside().await;
    let options = Options { account_storage: Some(64 << 20), ..Options::default() };
    let world = World::start(options).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.receiver.answer("/down", Answer::status(500));
    let uid = shop.subscribe("down", &["a"], once()).await;
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let stream = jetstream.get_stream(format!("{}_orders", shop.namespace)).await.unwrap();
    let consumer = stream.consumers().try_next().await.unwrap().unwrap();
    assert!((1..=1_000).contains(&consumer.config.max_ack_pending), "what the account's limit leaves");
    let filler = Config { name: FILLER.into(), subjects: vec!["filler".into()], ..Config::default() };
    jetstream.create_stream(filler).await.unwrap();

    // It is published while there is room, and given up when there is none.
    world.dispatchers[0].freeze().unwrap();
    shop.publish(&shop.event("a", "{}")).await;
    let stop = CancellationToken::new();
    let full = async {
        wait_full(&shop).await;
        world.dispatchers[0].thaw().unwrap();
        // The minute begins with the answer, whenever that is seen here.
        let start = shop.requests("down", 1).await[0].at;
        refused(&world, "NoRoom", 1, Duration::from_secs(240)).await;
        assert!(start.elapsed() > Duration::from_secs(45), "after {:?}", start.elapsed());
        stop.cancel();
    };
    tokio::join!(fill(&shop, &stop), full);
    shop.all_acked(SOON).await;

    assert!(jetstream.delete_stream(FILLER).await.unwrap().success);
    shop.publish(&shop.event("a", "kept")).await;
    assert_eq!(shop.dead_letter(&uid).await.1, "kept");
    assert_eq!(shop.receiver.count("/down"), 2);
}
