//! Who gets what, and under which identity.

use std::collections::HashSet;

use hookwright_e2e::Event;
use serde_json::json;

use crate::shop::{schedule, shared};
use hookwright_e2e::Answer;

#[tokio::test]
async fn types_route_exactly_by_token_and_by_rest() {
    let (shop, _machine) = shared().await;
    shop.subscribe("exact", &["order.created"], json!({})).await;
    shop.subscribe("token", &["order.*"], json!({})).await;
    shop.subscribe("rest", &["order.>", "order.created"], json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    for kind in ["order.created", "order.line.added", "order.updated", "invoice.sent"] {
        shop.publish(&shop.event(kind, format!(r#"{{"kind":"{kind}"}}"#))).await;
    }
    // The last event of all reaches `all` last or not, so each is waited for by its number.
    for (name, want) in [
        ("exact", &["order.created"][..]),
        ("token", &["order.created", "order.updated"]),
        ("rest", &["order.created", "order.line.added", "order.updated"]),
        ("all", &["order.created", "order.line.added", "order.updated", "invoice.sent"]),
    ] {
        let got = shop.requests(name, want.len()).await;
        let kinds: HashSet<&str> = got.iter().map(|request| request.header("ce-type")).collect();
        assert_eq!((kinds, got.len()), (want.iter().copied().collect(), want.len()), "{name}");
    }
    let ids: HashSet<String> = ["exact", "token", "rest", "all"]
        .iter()
        .flat_map(|name| shop.receiver.requests(&format!("/{name}")))
        .map(|request| request.webhook_id().to_owned())
        .collect();
    assert_eq!(ids.len(), 1 + 2 + 3 + 4, "each delivery has an id of its own");
}

#[tokio::test]
async fn each_attempt_has_the_same_id_and_a_new_timestamp() {
    let (shop, _machine) = shared().await;
    shop.receiver.fail_first("/flaky", 1, Answer::status(500));
    shop.subscribe("flaky", &[">"], schedule(&["2s"])).await;
    shop.publish(&shop.event("order.created", "{}")).await;
    let got = shop.requests("flaky", 2).await;
    assert_eq!(got[0].webhook_id(), got[1].webhook_id());
    assert_ne!(got[0].header("webhook-timestamp"), got[1].header("webhook-timestamp"));
    assert_ne!(got[0].header("webhook-signature"), got[1].header("webhook-signature"));
}

#[tokio::test]
async fn an_events_identity_is_its_place_in_the_stream() {
    let (shop, _machine) = shared().await;
    shop.subscribe("ids", &[">"], json!({})).await;
    let subject = format!("{}.events.x", shop.namespace);
    // One CloudEvents id, two sources: two events.
    for source in ["/a", "/b"] {
        shop.publish(&Event::cloud_event(&subject, "same", "t", source, "{}")).await;
    }
    // One Nats-Msg-Id, twice within the window: one event.
    let first = shop.publisher.publish(&shop.event("y", "1").message_id("m-1")).await.unwrap();
    let second = shop.publisher.publish(&shop.event("y", "2").message_id("m-1")).await.unwrap();
    assert_eq!((first.duplicate, second.duplicate), (false, true));
    shop.publish(&shop.event("last", "{}")).await;
    let got = shop.requests("ids", 4).await;
    let ids: HashSet<&str> = got.iter().map(|request| request.webhook_id()).collect();
    let sources: Vec<&str> =
        got.iter().filter(|r| r.header("ce-id") == "same").map(|r| r.header("ce-source")).collect();
    assert_eq!((ids.len(), got.len(), sources.len()), (4, 4, 2));
    assert_eq!(got.iter().filter(|request| request.header("ce-id") == "m-1").count(), 1);
}
