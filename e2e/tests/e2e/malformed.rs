//! A malformed event harms no other.

use hookwright_core::decide::DeadLetterReason;
use hookwright_e2e::{Answer, Event};
use serde_json::json;

use crate::shop::{schedule, shared};

#[tokio::test]
async fn a_broken_event_is_kept_with_its_reason_and_the_next_is_delivered() {
    let (shop, _machine) = shared().await;
    shop.subscribe("all", &[">"], json!({})).await;
    let subject = format!("{}.events.x", shop.namespace);
    let broken =
        Event::new(&subject, r#"{"specversion": "1.0", "#).header("content-type", "application/cloudevents+json");
    shop.publish(&broken).await;
    shop.publish(&shop.event("good", "{}")).await;
    let got = shop.requests("all", 1).await;
    assert_eq!(got[0].header("ce-type"), "good");
    let (letter, body) = shop.dead_event("orders").await;
    assert_eq!((letter.reason, letter.subscription), (DeadLetterReason::Malformed, None));
    assert!(letter.detail.unwrap().contains("JSON object"));
    assert_eq!(body, r#"{"specversion": "1.0", "#);
    assert_eq!(shop.receiver.count("/all"), 1);
}

#[tokio::test]
async fn a_type_that_is_required_and_absent_is_malformed() {
    let (shop, _machine) = shared().await;
    shop.produce("strict", "strict", json!({ "eventType": { "from": "CloudEvents", "stripPrefix": null } })).await;
    let spec = json!({ "producerRef": { "name": "strict" } });
    shop.subscribe("strict", &[">"], spec).await;
    let subject = format!("{}.strict.x", shop.namespace);
    shop.publish(&Event::new(&subject, "{}")).await;
    shop.publish(&Event::cloud_event(&subject, "1", "typed", "/s", "{}")).await;
    assert_eq!(shop.requests("strict", 1).await[0].header("ce-type"), "typed");
    let (letter, _) = shop.dead_event("strict").await;
    assert!(letter.detail.unwrap().contains("no type"));
}

#[tokio::test]
async fn a_body_at_the_streams_limit_is_delivered_retried_and_kept() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/large", Answer::status(500));
    let uid = shop.subscribe("large", &[">"], schedule(&["1s"])).await;
    // The default maxMessageSize is the server's max_payload (1 MiB) less 32 KiB for headers.
    let body = "x".repeat((1 << 20) - (32 << 10) - 512);
    shop.publish(&shop.event("order.created", body.clone())).await;
    let (letter, kept) = shop.dead_letter(&uid).await;
    assert_eq!((letter.progress.attempts, letter.reference_only), (2, false));
    assert!(kept == body, "the body is kept whole");
    let too_large = shop.publisher.publish(&shop.event("order.created", "x".repeat((1 << 20) - 4096))).await;
    assert!(too_large.is_err(), "the publisher gets the error");
}
