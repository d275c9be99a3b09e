//! What the stream loses while a Subscription is behind.

use hookwright_e2e::{Answer, Gate, User, wait_for};
use serde_json::{Value, json};

use super::{at_most, delivered, publish, suspend, suspended_with, wait_live};
use crate::shop::{SOON, condition, shared};

#[tokio::test]
async fn what_the_stream_drops_meanwhile_is_counted() {
    let (shop, _machine) = shared().await;
    let uid = suspended_with(&shop, "overtaken", 100).await;
    let jetstream = shop.world.nats.jetstream(User::Operator).await.unwrap();
    let stream = jetstream.get_stream(format!("{}_orders", shop.namespace)).await.unwrap();
    stream.purge().sequence(61).await.unwrap();
    suspend(&shop, "overtaken", false).await;
    delivered(&shop, "/overtaken", 40).await;
    wait_live(&shop, &uid).await;
    let missed = |status: &Value| condition(status, "EventsMissed")["status"] == "True";
    let status = shop.status("overtaken", "missed", missed).await;
    let missed = &status["delivery"]["missed"];
    assert_eq!(
        (&missed["firstSequence"], &missed["lastSequence"], &missed["count"]),
        (&json!(1), &json!(60), &json!(60))
    );
    at_most(&shop, "/overtaken", 60..100, 1);

    // The same while the reader is at work: each event is delivered, or counted.
    const EVENTS: usize = 2_500;
    let uid = suspended_with(&shop, "running", EVENTS).await;
    let gate = Gate::closed();
    shop.receiver.answer("/running", Answer::status(200).once_open(&gate));
    suspend(&shop, "running", false).await;
    shop.requests("running", 1).await;
    stream.purge().sequence((100 + EVENTS - 20) as u64).await.unwrap();
    gate.open();
    wait_live(&shop, &uid).await;
    delivered(&shop, "/running", 20).await;
    // The last of them may still be under way.
    let seen = || shop.deliveries("/running").len() as u64;
    let told = |status: &Value| status["delivery"]["missed"]["count"].as_u64().unwrap_or_default() + seen();
    let status = shop.status("running", "all accounted for", |status| told(status) >= EVENTS as u64).await;
    assert!(seen() < EVENTS as u64, "{} were delivered, {}", seen(), status["delivery"]["missed"]);
}

#[tokio::test]
async fn what_waits_goes_with_its_stream_and_the_next_one_is_read() {
    let (shop, _machine) = shared().await;
    let uid = suspended_with(&shop, "replaced", 30).await;
    let jetstream = shop.world.nats.jetstream(User::Operator).await.unwrap();
    jetstream.delete_stream(format!("{}_orders", shop.namespace)).await.unwrap();
    // The operator makes it anew.
    wait_for("the stream to be there again", SOON, async || {
        jetstream.get_stream(format!("{}_orders", shop.namespace)).await?;
        Ok(())
    })
    .await
    .unwrap();
    shop.world.wait_ready(&shop.namespace, "producers", "orders").await.unwrap();
    // The first of these may reach the position before its owner has left the former stream.
    publish(&shop, 30..45).await;
    suspend(&shop, "replaced", false).await;
    publish(&shop, 45..60).await;
    delivered(&shop, "/replaced", 30).await;
    wait_live(&shop, &uid).await;
    at_most(&shop, "/replaced", 30..60, 2);
    let missed = |status: &Value| condition(status, "EventsMissed")["status"] == "True";
    let status = shop.status("replaced", "missed", missed).await;
    let missed = &status["delivery"]["missed"];
    assert_eq!(missed["firstSequence"], 1);
    assert!((1..=30).contains(&missed["count"].as_u64().unwrap()), "{missed}");
}
