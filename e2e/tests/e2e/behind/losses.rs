//! What the stream loses while a Subscription is behind.

use hookwright_e2e::{Answer, Gate, User, wait_for};
use serde_json::{Value, json};

use super::{at_most, delivered, publish, suspend, suspended_with, wait_live};
use crate::shop::{SOON, Shop, condition, metric, shared};

#[tokio::test]
async fn what_the_stream_drops_meanwhile_is_counted() {
    let (shop, _machine) = shared().await;
    let uid = suspended_with(&shop, "overtaken", 100).await;
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
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
    assert!(missed["since"].is_string() && missed["time"].is_string(), "{missed}");
    // While dispatchers start, the Subscription may change hands.
    at_most(&shop, "/overtaken", 60..100, 2);
    told(&shop, "between the sequences 1 and 60").await;

    // What is gone can't be asked for: delivery starts with the first event that is there.
    let start = json!({ "startFrom": { "position": "Sequence", "sequence": 5 } });
    shop.subscribe("early", &["order.*"], start).await;
    delivered(&shop, "/early", 40).await;
    let incomplete = |status: &Value| status["startedFrom"]["incomplete"] == true;
    let status = shop.status("early", "started later", incomplete).await;
    assert_eq!(status["startedFrom"]["sequence"], 61);
    at_most(&shop, "/early", 60..100, 1);

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

/// Waits for a Warning Event that says this of what was missed, and for the metric.
async fn told(shop: &Shop<'_>, what: &str) {
    wait_for("what was missed to be told", SOON, async || {
        let events = ["get", "events", "-n", &shop.namespace, "-o", "json", "--field-selector=reason=EventsMissed"];
        let events: Value = serde_json::from_str(&shop.world.control_plane.kubectl(&events).await?)?;
        let says = |event: &Value| event["message"].as_str().is_some_and(|message| message.contains(what));
        let warned = |event: &Value| event["type"] == "Warning" && says(event);
        anyhow::ensure!(events["items"].as_array().is_some_and(|events| events.iter().any(warned)), "{events}");
        let missed = metric(&shop.world.operator.metrics().await?, "operator_events_missed_total");
        anyhow::ensure!(missed >= 60, "{missed}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_waits_goes_with_its_stream_and_the_next_one_is_read() {
    let (shop, _machine) = shared().await;
    let uid = suspended_with(&shop, "replaced", 30).await;
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
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
