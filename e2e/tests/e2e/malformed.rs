//! A malformed event harms no other.

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_e2e::{Answer, Event, Nats, Options, User, World, wait_for};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::shop::{SOON, Shop, beside, schedule, shared};

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
    assert!(letter.detail.unwrap().contains("not JSON"));
    assert_eq!(body, r#"{"specversion": "1.0", "#);
    assert_eq!(shop.receiver.count("/all"), 1);
    let mut counted = 0;
    for dispatcher in &shop.world.dispatchers {
        let metrics = dispatcher.metrics().await.unwrap();
        counted += usize::from(metrics.contains(r#"hookwright_dispatcher_dead_letters_total{reason="Malformed"}"#));
    }
    assert!(counted > 0, "it is counted");
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

/// Header blocks that NATS stores and that no dispatcher's client can read, or takes for a message of the server. They
/// interrupt every dispatcher until the operator has put them aside, so this has a world of its own.
#[tokio::test]
async fn unreadable_headers_are_put_aside_and_a_false_status_is_ignored() {
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    let subject = format!("{}.events.x", shop.namespace);
    publish_raw(&world.nats, &subject, b"NATS/1.0\r\nbad name: 1\r\n\r\n", b"first").await;
    publish_raw(&world.nats, &subject, b"NATS/1.0\r\nname: \xff\r\n\r\n", b"second").await;
    publish_raw(&world.nats, &format!("{subject}\u{a0}y"), b"NATS/1.0\r\n\r\n", b"second").await;
    publish_raw(&world.nats, &subject, b"NATS/1.0 404 No Messages\r\n\r\n", b"third").await;
    for n in 0..20 {
        shop.publish(&shop.event("good", format!("{n}"))).await;
    }
    // Twenty good ones and the third.
    let got = shop.requests("all", 21).await;
    assert!(got.iter().any(|request| request.body == "third"));
    let (letter, body) = shop.dead_event("orders").await;
    assert_eq!((letter.reason, letter.subscription), (DeadLetterReason::Malformed, None));
    assert!(["first", "second"].contains(&body.as_str()) && letter.detail.unwrap().contains("headers"));
    shop.all_acked(SOON).await;
    // Counted once all that is looked at together is put aside.
    wait_for("three unreadable events to be counted", SOON, async || {
        let metrics = world.operator.metrics().await?;
        anyhow::ensure!(metrics.contains("hookwright_operator_unreadable_events_total 3"), "{metrics}");
        Ok(())
    })
    .await
    .unwrap();
}

/// The client's connection panics at such a header, so the dispatchers end. What starts them again is a kubelet otherwise.
#[tokio::test]
async fn a_lone_carriage_return_in_a_header_ends_dispatchers_only_until_it_is_put_aside() {
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    let subject = format!("{}.events.x", shop.namespace);
    publish_raw(&world.nats, &subject, b"NATS/1.0\r\nname: lone\rreturn\r\n\r\n", b"poison").await;
    for n in 0..20 {
        shop.publish(&shop.event("good", format!("{n}"))).await;
    }
    wait_for("it to be put aside", SOON, async || {
        restart_the_ended(&world).await?;
        let metrics = world.operator.metrics().await?;
        anyhow::ensure!(metrics.contains("hookwright_operator_unreadable_events_total 1"), "{metrics}");
        Ok(())
    })
    .await
    .unwrap();
    let (letter, body) = shop.dead_event("orders").await;
    assert_eq!((letter.reason, body.as_str()), (DeadLetterReason::Malformed, "poison"));
    wait_for("the others to be acked", SOON, async || {
        // One that had it already may end now.
        restart_the_ended(&world).await?;
        let consumer = shop.consumer().await?;
        let open = (consumer.num_pending, consumer.num_ack_pending);
        anyhow::ensure!(open == (0, 0), "{open:?} not delivered, not acked");
        Ok(())
    })
    .await
    .unwrap();
    let bodies: std::collections::HashSet<_> =
        shop.receiver.requests("/all").iter().map(|request| request.body.clone()).collect();
    assert_eq!(bodies.len(), 20);
}

async fn restart_the_ended(world: &World) -> anyhow::Result<()> {
    for dispatcher in &world.dispatchers {
        if dispatcher.get("/healthz").await.is_err() && dispatcher.logs().contains("a part of the dispatcher ended") {
            dispatcher.restart()?;
        }
    }
    Ok(())
}

/// Publishes by the protocol itself: client libraries refuse to send this.
pub(crate) async fn publish_raw(nats: &Nats, subject: &str, headers: &[u8], body: &[u8]) {
    let mut connection = TcpStream::connect(nats.servers()[0].address()).await.unwrap();
    let options = json!({ "user": "app", "pass": nats.password(User::App), "headers": true, "verbose": false });
    let publish = format!("HPUB {subject} {} {}\r\n", headers.len(), headers.len() + body.len());
    let connect = format!("CONNECT {options}\r\n");
    let all = [connect.as_bytes(), publish.as_bytes(), headers, body, b"\r\nPING\r\n"].concat();
    connection.write_all(&all).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("PONG") {
        let mut bytes = [0; 4096];
        let n = connection.read(&mut bytes).await.unwrap();
        assert!(n > 0, "NATS closed the connection: {answer}");
        answer.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    assert!(!answer.contains("-ERR"), "{answer}");
}
