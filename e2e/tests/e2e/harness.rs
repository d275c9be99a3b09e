//! The harness itself, as far as it goes without the operator and dispatchers.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hookwright_e2e::{
    Answer, Event, Gate, Language, Nats, NatsOptions, Receiver, Scratch, Signed, Tools, User, verify,
};

use crate::shop::{SOON, beside};

#[tokio::test]
async fn nats_keeps_its_port_and_streams_over_a_crash_and_its_users_apart() {
    let tools = Tools::locate().await.unwrap();
    let scratch = Scratch::new().unwrap();
    let nats = Nats::start(&tools, scratch.path(), NatsOptions { servers: 1, ..NatsOptions::default() }).await.unwrap();
    let operator = nats.jetstream(User::Operator).await.unwrap();
    for (name, subject) in [("shop_orders", "shop.>"), ("HOOKWRIGHT_PARKED", "hookwright.parked.>")] {
        let config = async_nats::jetstream::stream::Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            ..Default::default()
        };
        operator.create_stream(config).await.unwrap();
    }
    let url = nats.url();
    let publisher = nats.publisher().await.unwrap();
    let event = Event::cloud_event("shop.order.created", "1", "order.created", "/shop", "{}").message_id("1");
    assert!(!publisher.publish(&event).await.unwrap().duplicate);

    nats.kill9().unwrap();
    nats.restart().await.unwrap();
    assert_eq!(nats.url(), url);
    assert!(publisher.publish_through_faults(&event, SOON).await.unwrap().duplicate);

    let mut dispatcher = nats.jetstream(User::Dispatcher).await.unwrap();
    dispatcher.publish("hookwright.parked.at.x", "".into()).await.unwrap().await.unwrap();
    // What is forbidden is not answered.
    let mut app = nats.jetstream(User::App).await.unwrap();
    app.set_timeout(Duration::from_secs(1));
    let forbidden = app.publish("hookwright.parked.at.x", "".into()).await.unwrap().await;
    assert!(forbidden.is_err(), "an application may not write to Hookwright's streams");
    assert!(app.delete_stream("HOOKWRIGHT_PARKED").await.is_err());
    dispatcher.set_timeout(Duration::from_secs(1));
    assert!(dispatcher.delete_stream("shop_orders").await.is_err());
    assert!(dispatcher.publish("shop.order.created", "".into()).await.unwrap().await.is_err());
}

#[tokio::test]
async fn a_cluster_keeps_what_it_acknowledged_when_one_server_is_killed_or_cut_off() {
    let _machine = beside().await;
    let (tools, scratch) = (Tools::locate().await.unwrap(), Scratch::new().unwrap());
    let nats = Nats::start(&tools, scratch.path(), NatsOptions { servers: 3, ..NatsOptions::default() }).await.unwrap();
    let operator = nats.jetstream(User::Operator).await.unwrap();
    let config = async_nats::jetstream::stream::Config {
        name: "shop_orders".to_owned(),
        subjects: vec!["shop.>".to_owned()],
        num_replicas: nats.replicas(),
        ..Default::default()
    };
    operator.create_stream(config).await.unwrap();
    nats.wait_current().await.unwrap();
    for id in ["killed", "cut off"] {
        let (leader, follower) =
            (nats.leader("shop_orders").await.unwrap(), nats.follower("shop_orders").await.unwrap());
        let publisher = nats.publisher_at(follower).await.unwrap();
        let event = Event::cloud_event("shop.order.created", id, "order.created", "/shop", "{}").message_id(id);
        assert!(!publisher.publish(&event).await.unwrap().duplicate);
        if id == "killed" {
            leader.kill9().unwrap()
        } else {
            leader.freeze().unwrap()
        }
        assert!(publisher.publish_through_faults(&event, SOON).await.unwrap().duplicate);
        assert_ne!(nats.leader("shop_orders").await.unwrap().name(), leader.name());
        if id == "killed" {
            leader.restart().await.unwrap()
        } else {
            leader.thaw().unwrap()
        }
        nats.wait_current().await.unwrap();
    }
}

#[tokio::test]
async fn a_receiver_records_and_answers_as_told() {
    let receiver = Receiver::start().await.unwrap();
    receiver.fail_first("/flaky", 1, Answer::status(503).header("retry-after", "2"));
    receiver.answer("/closed", Answer::close());
    receiver.answer("/hanging", Answer::hang());
    let curl = async |path: &str, seconds: &str| {
        let arguments =
            ["-s", "--noproxy", "*", "-m", seconds, "-o", "/dev/null", "-w", "%{http_code} %header{retry-after}"];
        let url = receiver.url(path);
        let output = tokio::process::Command::new("curl").args(arguments).args(["-d", "body", &url]).output().await;
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(curl("/flaky", "60").await, "503 2");
    assert_eq!(curl("/flaky", "60").await, "200 ");
    assert_eq!(curl("/closed", "60").await, "000 ");
    assert_eq!(curl("/hanging", "1").await, "000 ");
    let flaky = receiver.wait_count("/flaky", 2, SOON).await.unwrap();
    assert_eq!((flaky[0].answered, flaky[1].answered), (Some(503), Some(200)));
    assert_eq!(flaky[0].body, "body");
    // A second may be too short for the request to arrive.
    if let Some(hanging) = receiver.requests("/hanging").first() {
        assert_eq!(hanging.answered, None);
    }
    let gate = Gate::closed();
    receiver.answer("/held", Answer::status(202).once_open(&gate));
    let (held, ()) = tokio::join!(curl("/held", "60"), async {
        receiver.wait_count("/held", 1, SOON).await.unwrap();
        gate.open();
    });
    assert_eq!(held, "202 ");
    let missing = receiver.wait_count("/flaky", 3, Duration::from_millis(10)).await.unwrap_err();
    assert!(missing.to_string().ends_with("last seen: 2"), "{missing}");
}

#[tokio::test]
async fn the_official_libraries_tell_good_signatures_from_bad_ones() {
    let tools = Tools::locate().await.unwrap();
    // The library signs, so that nothing of ours is tested here but the way to it.
    let secret = format!("whsec_{}", BASE64_STANDARD.encode([7; 32]));
    let body = br#"{"order":1}"#;
    let sign = "import sys, time, datetime; from standardwebhooks import Webhook; t = int(time.time()); \
                print(t, Webhook(sys.argv[1]).sign('msg_1', datetime.datetime.fromtimestamp(t, datetime.timezone.utc), sys.argv[2]))";
    let text = String::from_utf8_lossy(body);
    let output =
        tokio::process::Command::new(tools.python()).args(["-c", sign, &secret, &text]).output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (timestamp, signature) = said.trim().split_once(' ').unwrap();
    let headers = [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signature),
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-type", "order.created"),
        ("ce-source", "/shop"),
    ];
    let good = Signed::from_parts(&headers, body, &secret);
    let bad = Signed::from_parts(&headers[..4], b"{}", &secret);
    for language in Language::ALL {
        let verdicts = verify(&tools, language, &[good.clone(), bad.clone()]).await.unwrap();
        assert_eq!([verdicts[0].ok, verdicts[1].ok], [true, false], "{language:?}: {verdicts:?}");
        assert!(verdicts[1].event.is_none(), "{language:?}: {verdicts:?}");
        let event = verdicts[0].event.as_ref().unwrap();
        assert_eq!((event.id.as_str(), event.kind.as_str(), event.source.as_str()), ("1", "order.created", "/shop"));
        assert_eq!(event.data, serde_json::json!({ "order": 1 }), "{language:?}");
    }
}
