//! What panics a dispatcher, or comes without its body, concerns no other event and no other Subscription.

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::progress::Progress;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_e2e::{Options, User, World, wait_for};
use serde_json::{Value, json};

use crate::cut_connections::{Raw, UNREADABLE};
use crate::shop::{SOON, Shop, TIMEOUT, beside, condition};

#[tokio::test]
async fn what_panics_is_given_up_and_nothing_else_comes_twice() {
    const OTHERS: usize = 20;
    let _machine = beside().await;
    let dispatcher = json!({ "environment": { "HOOKWRIGHT_TEST_PANIC": "poisoned,record of broken" } });
    let world = World::start(Options { dispatchers: 2, dispatcher, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("good", &[">"], json!({})).await;
    let uid = shop.subscribe("poisoned", &["a"], json!({})).await;
    shop.publish(&shop.event("a", "for both")).await;
    shop.publish(&shop.event("poisoned", "for nobody")).await;
    for n in 0..OTHERS {
        shop.publish(&shop.event("b", n.to_string())).await;
    }

    let (letter, body) = shop.dead_letter(&uid).await;
    let found = (letter.reason, letter.progress.panics, letter.progress.attempts, body.as_str());
    assert_eq!(found, (DeadLetterReason::Internal, 2, 0, "for both"));
    assert!(letter.detail.unwrap().contains("a test asked"));
    let (letter, body) = shop.dead_event("orders").await;
    assert_eq!((letter.reason, body.as_str()), (DeadLetterReason::Internal, "for nobody"));
    shop.requests("good", 1 + OTHERS).await;
    shop.all_acked(SOON).await;
    assert_eq!((shop.receiver.count("/good"), shop.receiver.count("/poisoned")), (1 + OTHERS, 0));

    // A delivery that was parked before keeps what it has been through.
    let progress = Progress { attempts: 3, panics: 1, ..Progress::default() };
    shop.publish_due(&SubscriptionUid::parse(&uid).unwrap(), 1, progress).await;
    wait_for("the other one to be given up", SOON, async || {
        let (letter, _) = shop.dead_letter(&uid).await;
        anyhow::ensure!(letter.progress.attempts == 3, "{letter:?}");
        Ok(())
    })
    .await
    .unwrap();

    // Neither keeps what waits behind it from a Subscription that reads on its own.
    let paused = shop.subscribe("paused", &[">"], json!({ "suspend": true })).await;
    shop.publish(&shop.event("b", "0")).await;
    Raw::connect(&world).await.publish(&format!("{}.events.b", shop.namespace), UNREADABLE).await;
    shop.publish(&shop.event("poisoned", "for nobody")).await;
    for n in 1..OTHERS {
        shop.publish(&shop.event("b", n.to_string())).await;
    }
    shop.all_acked(SOON).await;
    shop.subscribe("paused", &[">"], json!({ "suspend": false })).await;
    shop.requests("paused", OTHERS).await;
    let (letter, body) = shop.dead_letter(&paused).await;
    assert_eq!((letter.reason, body.as_str()), (DeadLetterReason::Internal, "for nobody"));
    shop.status("paused", "live", |status| condition(status, "Delivering")["reason"] == "Live").await;
    assert_eq!(shop.receiver.count("/paused"), OTHERS);
    a_record_that_panics_bars_its_producer_alone(&world, &shop).await;
}

/// The record of the Subscription `broken` panics whoever reads it.
async fn a_record_that_panics_bars_its_producer_alone(world: &World, other: &Shop<'_>) {
    let shop = Shop::open(world, json!({})).await;
    shop.subscribe("waits", &[">"], json!({})).await;
    world.control_plane.apply_json(&shop.subscription("broken", &[">"], json!({}))).await.unwrap();
    let unserved = |object: &Value| condition(&object["status"], "Programmed")["reason"] == "Unserved";
    let plane = &world.control_plane;
    plane.wait_until(&shop.namespace, "producers", "orders", "Unserved", SOON, unserved).await.unwrap();
    for dispatcher in &world.dispatchers {
        assert!(dispatcher.logs().contains("reading it panicked: a test asked"), "it says why");
    }
    shop.publish(&shop.event("a", "held")).await;
    let before = other.receiver.count("/good");
    other.publish(&other.event("b", "beside")).await;
    other.requests("good", before + 1).await;
    assert_eq!(shop.receiver.count("/waits"), 0);
    plane.kubectl(&["delete", TIMEOUT, "-n", &shop.namespace, "subscriptions.hookwright.dev/broken"]).await.unwrap();
    shop.requests("waits", 1).await;
}

#[tokio::test]
async fn an_event_whose_body_was_left_out_is_not_sent_without_it() {
    const EVENTS: usize = 20;
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    shop.publish(&shop.event("a", "first")).await;
    shop.requests("all", 1).await;

    // The operator would put it right.
    world.operator.freeze().unwrap();
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let stream = jetstream.get_stream(format!("{}_orders", shop.namespace)).await.unwrap();
    let set = async |headers_only| {
        let mut config = shop.consumer().await.unwrap().config;
        config.headers_only = headers_only;
        stream.update_consumer(config).await.unwrap();
    };
    set(true).await;
    for n in 0..EVENTS {
        shop.publish(&shop.event("a", format!("event {n}"))).await;
    }
    wait_for("all to say why they don't read", SOON, async || {
        let say = world.dispatchers.iter().filter(|dispatcher| dispatcher.logs().contains("headers_only")).count();
        anyhow::ensure!(say > 0, "{say} do");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(shop.receiver.count("/all"), 1);
    set(false).await;
    world.operator.thaw().unwrap();
    shop.requests("all", 1 + EVENTS).await;
    shop.all_acked(SOON).await;
    let requests = shop.receiver.requests("/all");
    assert!(requests.len() == 1 + EVENTS && requests.iter().all(|request| !request.body.is_empty()));

    // A publisher may write the header itself.
    let paused = shop.subscribe("paused", &[">"], json!({ "suspend": true })).await;
    shop.publish(&shop.event("a", "before")).await;
    shop.publish(&shop.event("a", "").header("Nats-Msg-Size", "7")).await;
    // It comes again every 6 s, to either dispatcher, until one of them has found its consumer in order thrice.
    shop.all_acked(2 * SOON).await;
    let (letter, _) = shop.dead_event("orders").await;
    assert_eq!(letter.reason, DeadLetterReason::Malformed);
    assert!(letter.detail.unwrap().contains("Nats-Msg-Size"));
    shop.all_acked(SOON).await;
    shop.publish(&shop.event("a", "").header("Nats-Msg-Size", "0")).await;
    shop.requests("all", 3 + EVENTS).await;

    // Nor does a Subscription get it that reads on its own.
    shop.subscribe("paused", &[">"], json!({ "suspend": false })).await;
    shop.requests("paused", 2).await;
    let (letter, _) = shop.dead_letter(&paused).await;
    assert_eq!(letter.reason, DeadLetterReason::Malformed);
    assert!(letter.detail.unwrap().contains("Nats-Msg-Size"));
    shop.status("paused", "live", |status| condition(status, "Delivering")["reason"] == "Live").await;
    assert_eq!(shop.receiver.count("/paused"), 2);
}
