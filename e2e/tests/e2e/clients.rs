//! Receivers verify with the official libraries, and read the event with an SDK.

use hookwright_e2e::{Event, Signed, verify_documented, verify_javascript, verify_python};
use serde_json::json;

use crate::shop::shared;

#[tokio::test]
async fn the_official_libraries_accept_what_was_sent() {
    let (shop, _machine) = shared().await;
    shop.subscribe("signed", &[">"], json!({})).await;
    let secret = shop.world.signing_secret(&shop.namespace, "signed").await.unwrap();
    let subject = format!("{}.events.order.created", shop.namespace);
    let structured =
        r#"{"specversion":"1.0","id":"s 1","source":"/shop","type":"order.paid","data":{"order":3}}"#.to_owned();
    shop.publish(&Event::cloud_event(&subject, "b%201 \"%C3%A4\"", "order.created", "/shop", r#"{"order":1}"#)).await;
    shop.publish(&Event::new(&subject, r#"{"order": 2}"#).message_id("plain")).await;
    shop.publish(&Event::new(&subject, structured).header("content-type", "application/cloudevents+json")).await;
    shop.publish(&Event::new(&subject, "").header("content-type", "application/octet-stream")).await;
    let got = shop.requests("signed", 4).await;

    let signed: Vec<Signed> = got.iter().map(|request| Signed::new(request, &secret)).collect();
    for verdicts in [
        verify_python(&shop.world.tools, &signed).await.unwrap(),
        verify_javascript(&shop.world.tools, &signed).await.unwrap(),
    ] {
        // The libraries parse the body as JSON once its signature is good, so the empty one is verified apart.
        for (request, verdict) in got.iter().zip(&verdicts).filter(|(request, _)| !request.body.is_empty()) {
            assert!(verdict.ok, "{} {verdict:?}", request.header("ce-id"));
        }
    }
    let events = verify_python(&shop.world.tools, &signed).await.unwrap();
    let mut read: Vec<(String, String, String, i64)> = events
        .into_iter()
        .filter_map(|verdict| verdict.event)
        .filter(|event| event.data.is_object())
        .map(|event| (event.id, event.kind, event.source, event.data["order"].as_i64().unwrap()))
        .collect();
    read.sort_by_key(|event| event.3);
    let producer = format!("/namespaces/{}/producers/orders", shop.namespace);
    let want = [
        ("b 1 \"ä\"", "order.created", "/shop", 1),
        ("plain", "order.created", producer.as_str(), 2),
        ("s 1", "order.paid", "/shop", 3),
    ];
    let want = want.map(|(id, kind, source, n)| (id.to_owned(), kind.to_owned(), source.to_owned(), n));
    assert_eq!(read, want);

    // The libraries decode the body as UTF-8 before they verify it.
    shop.publish(&Event::new(&subject, vec![0xff, 0xfe, 0, 1])).await;
    let binary = shop.requests("signed", 5).await.remove(4);
    assert_eq!(binary.body[..], [0xff, 0xfe, 0, 1]);
    let tools = &shop.world.tools;
    assert_eq!(verify_documented(tools, &Signed::new(&binary, &secret)).await.unwrap(), [true; 2]);
    let other = Signed::new(&got[0], &secret);
    assert_eq!(verify_documented(tools, &other).await.unwrap(), [true; 2]);
    let wrong = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(verify_documented(tools, &Signed::new(&binary, wrong)).await.unwrap(), [false; 2]);
}
