//! What webhooks carry of an event: modes, fields, headers from attributes, and what a Producer withholds.

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_e2e::{Answer, Event, Language, ParsedEvent, Received, Signed, verify, workspace};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, condition, fixed, merge, shared};

/// What a request says beside its signature: content type, `ce-id` and body.
fn told(request: &Received) -> (String, String, String) {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    (request.header("content-type").to_owned(), request.header("ce-id").to_owned(), body)
}

/// The first request for an event, which its subject's last token names.
async fn only(shop: &Shop<'_>, name: &str) -> (String, String, String) {
    told(&shop.requests(name, 1).await[0])
}

async fn edit(shop: &Shop<'_>, kind: &str, name: &str, spec: Value) {
    let patch = json!({ "spec": spec }).to_string();
    let args = ["patch", kind, name, "-n", &shop.namespace, "--type", "merge", "-p", &patch];
    shop.world.control_plane.kubectl(&args).await.unwrap();
}

#[tokio::test]
async fn each_published_form_arrives_in_each_mode_and_is_signed_as_it_is_sent() {
    let (shop, _machine) = shared().await;
    let ce = r#"{"specversion":"1.0","id":"s","source":"/s","type":"structured","time":"2026-01-01T00:00:00Z","data":{"n": 1.50}}"#;
    let subject = |kind: &str| format!("{}.events.{kind}", shop.namespace);
    let attributes = |kind: &str, body: &'static [u8], content_type: &str| {
        let event = Event::new(subject(kind), body).header("ce-id", kind).header("ce-source", "/s");
        let event = event.header("ce-specversion", "1.0").header("ce-time", "2026-01-01T00:00:00Z");
        event.header("ce-type", kind).header("ce-tenantid", "acme").header("content-type", content_type)
    };
    let events = [
        ("json", attributes("json", b"{\"n\": 1.50}", "application/json")),
        ("text", attributes("text", b"a\n", "text/plain")),
        ("bytes", attributes("bytes", b"\x00\x01", "image/png")),
        ("structured", Event::new(subject("structured"), ce).header("content-type", "application/cloudevents+json")),
        ("plain", Event::new(subject("plain"), "{\"n\": 1.50}").message_id("plain")),
    ];
    let tenant = json!([{ "name": "X-Tenant", "valueFrom": { "attributeRef": { "name": "tenantid" } } }]);
    let mut subscriptions = Vec::new();
    for (kind, _) in &events {
        for mode in ["Binary", "Structured", "Envelope"] {
            let name = format!("{kind}-{}", mode.to_lowercase());
            let spec = json!({ "payload": { "mode": mode }, "endpoint": { "headers": tenant } });
            subscriptions.push((name, kind, spec));
        }
    }
    let key = shop.shared_key().await;
    for (name, kind, spec) in &subscriptions {
        let mut spec = spec.clone();
        merge(&mut spec, key.clone());
        shop.world.control_plane.apply_json(&shop.subscription(name, &[kind], spec)).await.unwrap();
    }
    for (name, ..) in &subscriptions {
        shop.world.wait_ready(&shop.namespace, "subscriptions", name).await.unwrap();
    }
    for (_, event) in &events {
        shop.publish(event).await;
    }
    let mut signed = Vec::new();
    for (name, ..) in &subscriptions {
        let request = &shop.requests(name, 1).await[0];
        let tenant = if name.starts_with("plain") || name.starts_with("structured") { "" } else { "acme" };
        assert_eq!(request.header("x-tenant"), tenant, "{name}");
        signed.push((name.as_str(), Signed::new(request, crate::shop::KEY)));
    }
    let requests: Vec<Signed> = signed.iter().map(|(_, signed)| signed.clone()).collect();
    for language in Language::ALL {
        let verdicts = verify(&shop.world.tools, language, &requests).await.unwrap();
        for ((name, _), mut verdict) in signed.iter().zip(verdicts) {
            assert!(verdict.ok, "{language:?} {name}: {verdict:?}");
            let (kind, mode) = name.split_once('-').unwrap();
            if kind == "plain"
                && let Some(event) = &mut verdict.event
            {
                assert!(event.time.take().is_some(), "{language:?} {name}");
            }
            if *name == "structured-structured"
                && let Some(event) = &mut verdict.event
            {
                // Its JSON has no type, which some SDKs fill in.
                let filled_in = event.content_type.take();
                assert!(filled_in.is_none_or(|kind| kind == "application/json"), "{language:?} {name}");
            }
            // An envelope is no CloudEvent.
            let want = (mode != "envelope").then(|| read_by_sdk(&shop, kind, mode));
            assert_eq!(verdict.event, want, "{language:?} {name}: {:?}", verdict.event_error);
        }
    }
    for (name, want) in [
        ("json-binary", ("application/json", "json", "{\"n\": 1.50}".to_owned())),
        ("structured-binary", ("application/json", "s", "{\"n\": 1.50}".to_owned())),
        ("structured-structured", ("application/cloudevents+json", "", ce.to_owned())),
        ("text-envelope", ("application/json", "", envelope("text", r#""data":"a\n""#))),
        ("bytes-envelope", ("application/json", "", envelope("bytes", r#""data_base64":"AAE=""#))),
        ("structured-envelope", ("application/json", "", envelope("structured", r#""data":{"n": 1.50}"#))),
    ] {
        let (content_type, id, body) = want;
        assert_eq!(only(&shop, name).await, (content_type.to_owned(), id.to_owned(), body), "{name}");
    }
    let status = shop.status("json-envelope", "what applies", |status| status["effectivePayload"].is_object()).await;
    assert_eq!(status["effectivePayload"], json!({ "mode": "Envelope", "producerPolicy": false }));
}

/// What each SDK has to read of an event of the table above. JSON without a type stays so in structured mode.
fn read_by_sdk(shop: &Shop<'_>, kind: &str, mode: &str) -> ParsedEvent {
    let (content_type, data) = match kind {
        "text" => (Some("text/plain"), json!("a\n")),
        "bytes" => (Some("image/png"), json!("AAE=")),
        "structured" if mode == "structured" => (None, json!({ "n": 1.5 })),
        _ => (Some("application/json"), json!({ "n": 1.5 })),
    };
    let text = |text: &str| text.to_owned();
    ParsedEvent {
        id: text(if kind == "structured" { "s" } else { kind }),
        kind: text(kind),
        source: if kind == "plain" { format!("/namespaces/{}/producers/orders", shop.namespace) } else { text("/s") },
        time: (kind != "plain").then_some(1_767_225_600),
        content_type: content_type.map(text),
        tenant: (!matches!(kind, "structured" | "plain")).then(|| text("acme")),
        data,
    }
}

fn envelope(kind: &str, data: &str) -> String {
    format!(r#"{{"type":"{kind}","timestamp":"2026-01-01T00:00:00Z",{data}}}"#)
}

#[tokio::test]
async fn an_edit_of_the_payload_applies_to_what_waits_and_what_cannot_be_made_blames_nobody() {
    let (shop, _machine) = shared().await;
    shop.receiver.fail_first("/waits", 1, Answer::status(500));
    shop.subscribe("waits", &["a"], fixed("8s")).await;
    shop.publish(&shop.event("a", r#"{"keep":1,"drop":2}"#)).await;
    assert_eq!(told(&shop.requests("waits", 1).await[0]).2, r#"{"keep":1,"drop":2}"#);
    edit(&shop, "hsub", "waits", json!({ "payload": { "mode": "Envelope", "include": ["/keep"] } })).await;
    let again: Value = serde_json::from_slice(&shop.requests("waits", 2).await[1].body).unwrap();
    assert_eq!((&again["type"], &again["data"]), (&json!("a"), &json!({ "keep": 1 })));

    let uid = shop.subscribe("fields", &["t"], json!({ "payload": { "exclude": ["/a"] } })).await;
    shop.publish(&shop.event("t", "no JSON").header("content-type", "text/plain")).await;
    let (letter, body) = shop.dead_letter(&uid).await;
    assert_eq!((letter.reason, letter.progress.attempts), (DeadLetterReason::TransformFailed, 0));
    assert_eq!(letter.detail.as_deref(), Some("payload.exclude: NotJson: the event's data is not JSON"));
    assert_eq!((shop.receiver.count("/fields"), body.as_str()), (0, "no JSON"));
    let dead = |status: &Value| status["delivery"]["deadLettered"] == 1;
    let status = shop.status("fields", "one to be dead", dead).await;
    assert!(status["delivery"]["failedAttempts"] == 0 && status["health"].is_null(), "{status}");
}

#[tokio::test]
async fn what_the_producer_withholds_is_in_no_attempt_and_in_no_dead_letter() {
    let (shop, _machine) = shared().await;
    let (body, open) = (r#"{"open":1,"secret":"hush"}"#, r#"{"open":1}"#);
    shop.receiver.fail_first("/waits", 1, Answer::status(500));
    shop.receiver.answer("/dead", Answer::status(500));
    let late = shop.subscription("late", &["a"], json!({ "suspend": true }));
    shop.world.control_plane.apply_json(&late).await.unwrap();
    shop.world.wait_ready(&shop.namespace, "subscriptions", "late").await.unwrap();
    shop.subscribe("waits", &["a"], fixed("10s")).await;
    shop.publish(&shop.event("a", body)).await;
    assert_eq!(only(&shop, "waits").await.2, body);

    // From now on something is withheld, also from what waits and from what is behind.
    let policies = json!([{ "from": "Same", "exclude": ["/secret"] }, { "from": "All", "exclude": ["/message"] }]);
    edit(&shop, "hprod", "orders", json!({ "payloadPolicies": policies })).await;
    let applies = |status: &Value| status["effectivePayload"]["producerPolicy"] == true;
    for name in ["waits", "late"] {
        shop.status(name, "the policy to apply", applies).await;
    }
    assert_eq!(told(&shop.requests("waits", 2).await[1]).2, open);
    edit(&shop, "hsub", "late", json!({ "suspend": false })).await;
    assert_eq!(only(&shop, "late").await.2, open);

    // A subscriber that asks for it gets nothing of it, and neither does one whose delivery is given up.
    shop.subscribe("asks", &["b", "c"], json!({ "payload": { "include": ["/secret"], "mode": "Envelope" } })).await;
    let once = json!({ "delivery": { "retry": { "maxAttempts": 1 } } });
    let uid = shop.subscribe("dead", &["b"], once).await;
    let odd = shop.event("b", body).header("x-internal", "hush");
    shop.publish(&odd).await;
    let asked: Value = serde_json::from_slice(&shop.requests("asks", 1).await[0].body).unwrap();
    assert_eq!(asked["data"], json!({}));
    let (letter, kept) = shop.dead_letter(&uid).await;
    assert_eq!((letter.reason, kept.as_str()), (DeadLetterReason::AttemptsExhausted, open));

    // Nor do its filters get to see what is withheld, in any dialect that looks at data.
    for (name, filter) in [
        ("peeks", json!({ "jmespath": "data.secret == 'hush'" })),
        ("looks", json!({ "cel": "has(data.secret) && data.secret == 'hush'" })),
        ("sees", json!({ "jmespath": "data.open == `1`" })),
    ] {
        shop.subscribe(name, &["d"], json!({ "filters": [filter] })).await;
    }
    shop.publish(&shop.event("d", body)).await;
    assert_eq!(only(&shop, "sees").await.2, open);
    shop.all_acked(SOON).await;
    assert_eq!((shop.receiver.count("/peeks"), shop.receiver.count("/looks")), (0, 0));

    // Data that isn't JSON is withheld whole.
    let text = shop.event("c", "hush").header("content-type", "text/plain").header("ce-id", "c");
    shop.publish(&text).await;
    let withheld: Value = serde_json::from_slice(&shop.requests("asks", 2).await[1].body).unwrap();
    assert_eq!((&withheld["type"], &withheld["data"]), (&json!("c"), &Value::Null));

    let says_so = |status: &Value| condition(status, "PayloadWithheld")["reason"] == "DataNotJson";
    shop.status("asks", "that to be told", says_so).await;

    // A test is an attempt, too.
    let annotate = ["annotate", "-n", &shop.namespace, "hsub/late", "hookwright.dev/send-test=1"];
    shop.world.control_plane.kubectl(&annotate).await.unwrap();
    let sent = told(&shop.requests("late", 2).await[1]).2;
    assert!(sent.contains("\"value\":\"1\"") && !sent.contains("message"), "{sent}");
}

#[tokio::test]
async fn what_the_producer_forbids_is_dropped_at_each_attempt_and_counted() {
    let (shop, _machine) = shared().await;
    shop.receiver.fail_first("/waits", 1, Answer::status(500));
    let late = shop.subscription("late", &["a"], json!({ "suspend": true }));
    shop.world.control_plane.apply_json(&late).await.unwrap();
    shop.world.wait_ready(&shop.namespace, "subscriptions", "late").await.unwrap();
    shop.subscribe("waits", &["a"], fixed("10s")).await;
    let event = |kind: &str, region: &str, body: &str| shop.event(kind, body).header("ce-region", region);
    shop.publish(&event("a", "us", r#"{"open":true}"#)).await;
    shop.requests("waits", 1).await;

    // From now on the event is forbidden: its retry, and what waits in the stream.
    let policies = json!([
        { "from": "All", "filters": [{ "exact": { "region": "eu" } }] },
        { "from": "Same", "filters": [{ "jmespath": "data.open" }], "exclude": ["/open"] },
    ]);
    edit(&shop, "hprod", "orders", json!({ "payloadPolicies": policies })).await;
    let applies = |status: &Value| status["effectivePayload"]["producerPolicy"] == true;
    shop.status("late", "the policy to apply", applies).await;
    edit(&shop, "hsub", "late", json!({ "suspend": false })).await;
    let forbidden = |number: i64| move |status: &Value| status["delivery"]["forbidden"] == number;
    for name in ["waits", "late"] {
        let status = shop.status(name, "one to be forbidden", forbidden(1)).await;
        assert_eq!((&status["delivery"]["retrying"], &status["delivery"]["deadLettered"]), (&json!(0), &json!(0)));
    }

    // Of several events, those come that pass the filters of all policies. The Subscription's own see no others, nor does
    // the index: which attributes forbidden events have is not told by what they count as.
    let own = json!([{ "cel": "region != 'eu' || !has(data.open)" }, { "exact": { "tenantid": "acme" } }]);
    shop.subscribe("own", &["b"], json!({ "filters": own })).await;
    for (region, body) in [("us", r#"{"open":true}"#), ("eu", r#"{"open":false}"#), ("eu", "no JSON")] {
        shop.publish(&event("b", region, body)).await;
    }
    shop.publish(&event("b", "eu", r#"{"open":true,"n":1}"#).header("ce-tenantid", "acme")).await;
    assert_eq!(only(&shop, "own").await.2, r#"{"n":1}"#);
    let counted = |status: &Value| forbidden(3)(status) && status["filters"]["matched"] == 1;
    let status = shop.status("own", "three to be forbidden", counted).await;
    assert_eq!(status["filters"]["failed"], 0, "{status}");
    assert_eq!((shop.receiver.count("/waits"), shop.receiver.count("/late")), (1, 0));

    // A test is an attempt, too.
    let annotate = ["annotate", "-n", &shop.namespace, "hsub/own", "hookwright.dev/send-test=1"];
    shop.world.control_plane.kubectl(&annotate).await.unwrap();
    let tested = |status: &Value| status["lastTest"]["outcome"] == "Forbidden";
    shop.status("own", "the test to be forbidden", tested).await;
    assert_eq!(shop.receiver.count("/own"), 1);

    // A policy that can't be used is its owner's to mend, and meanwhile nothing is sent.
    let broken = json!([{ "from": "All", "filters": [{ "sql": "region =" }] }]);
    edit(&shop, "hprod", "orders", json!({ "payloadPolicies": broken })).await;
    let refused = |status: &Value| condition(status, "ResolvedRefs")["reason"] == "ProducerNotReady";
    let status = shop.status("own", "the policy to be refused", refused).await;
    assert!(!status.to_string().contains("region"), "{status}");
}

/// The documents of an example's file.
fn example(name: &str) -> Vec<Value> {
    let file = workspace().join(format!("examples/{name}/{name}.yaml"));
    let text = std::fs::read_to_string(file).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

#[tokio::test]
async fn the_examples_send_what_their_pages_say() {
    let (shop, _machine) = shared().await;
    let json = |body: &str| serde_json::from_str::<Value>(body).unwrap();
    let producer = format!("/namespaces/{}/producers/orders", shop.namespace);
    for (name, kind, data, header, want) in [
        (
            "structured",
            "order.created",
            json!({ "order": 1 }),
            "acme",
            json!({ "data": { "order": 1 }, "tenantid": "acme" }),
        ),
        (
            "envelope",
            "order.created",
            json!({ "id": 7, "customer": { "country": "NO", "name": "Kari" } }),
            "",
            json!({ "type": "order.created", "data": { "id": 7, "customer": { "country": "NO" } } }),
        ),
        (
            "slack",
            "order.created",
            json!({ "id": 7, "customer": "\"Kari\"\n" }),
            "",
            json!({ "text": "order.created: order 7" }),
        ),
        (
            "discord",
            "order.created",
            json!({ "id": 7, "customer": "\"Kari\"\n" }),
            "",
            json!({ "content": "order.created: order 7", "allowed_mentions": { "parse": [] } }),
        ),
        (
            "teams",
            "order.created",
            json!({ "id": 7 }),
            "",
            json!({ "type": "message", "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        { "type": "TextBlock", "weight": "bolder", "text": "order.created: order 7" },
                        { "type": "TextBlock", "wrap": true, "text": "of somebody" },
                    ],
                },
            }] }),
        ),
        (
            "pagerduty",
            "payment.failed",
            json!({ "amount": 5000, "reason": "card declined" }),
            "",
            json!({ "event_action": "trigger", "dedup_key": format!("{producer}/pagerduty") }),
        ),
        (
            "payload-policy",
            "order.created",
            json!({ "id": 7, "payment": { "card": "4111", "sum": 10 }, "customer": { "email": "a" } }),
            "",
            json!({ "id": 7, "payment": { "sum": 10 }, "customer": { "email": "a" } }),
        ),
    ] {
        let documents = example(name);
        let of_kind = |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap();
        if let policies @ Value::Array(_) = &of_kind("Producer")["spec"]["payloadPolicies"] {
            // The example's own namespace is this one.
            let policies = policies.to_string().replace("shop-policy", &shop.namespace);
            edit(&shop, "hprod", "orders", json!({ "payloadPolicies": json(&policies) })).await;
        }
        let mut spec = of_kind("Subscription")["spec"].clone();
        spec["endpoint"]["url"] = json!(shop.receiver.url(&format!("/{name}")));
        let object = shop.subscription(name, &[kind], spec);
        shop.world.control_plane.apply_json(&object).await.unwrap();
        shop.world.wait_ready(&shop.namespace, "subscriptions", name).await.unwrap();
        if name == "payload-policy" {
            let applies = |status: &Value| status["effectivePayload"]["producerPolicy"] == true;
            shop.status(name, "the policy to apply", applies).await;
        }
        let event = shop.event(kind, data.to_string()).header("ce-id", name).header("ce-tenantid", "acme");
        shop.publish(&event).await;
        let requests = shop.requests(name, 1).await;
        let request = requests.last().unwrap();
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        for (field, value) in want.as_object().unwrap() {
            assert_eq!(&body[field], value, "{name}: {body}");
        }
        assert_eq!(request.header("x-tenant"), header, "{name}");
        shop.world.control_plane.kubectl(&["delete", "hsub", name, "-n", &shop.namespace]).await.unwrap();
    }
}
