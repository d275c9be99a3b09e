//! The annotation that asks for a test delivery, and `status.lastTest`.

use std::time::Duration;

use hookwright_core::delivery::test_delivery::{TEST_HEADER, TestDelivery, TestRecord};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{DEAD_LETTER_STREAM, PARKED_STREAM, STATE_BUCKET, test_due, test_key};
use hookwright_core::record;
use hookwright_e2e::{Answer, Options, Received, Signed, User, World, verify_javascript, verify_python, wait_for};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, beside, condition, merge, once_in_three, shared};

/// How long an attempt may take at most.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Shop<'_> {
    async fn ask_for_test(&self, name: &str, value: &str) {
        let annotation = format!("hookwright.dev/send-test={value}");
        let annotate = ["annotate", "--overwrite", "-n", &self.namespace, &format!("hsub/{name}"), &annotation];
        self.world.control_plane.kubectl(&annotate).await.unwrap();
    }

    /// Waits for what status says of the test with this value, and returns `lastTest`.
    async fn tested(&self, name: &str, value: &str) -> Value {
        self.tested_until(name, value, |_| true).await
    }

    async fn tested_until(&self, name: &str, value: &str, check: impl Fn(&Value) -> bool) -> Value {
        let said = |status: &Value| status["lastTest"]["value"] == value && check(&status["lastTest"]);
        self.status(name, &format!("tested with {value}"), said).await["lastTest"].clone()
    }

    /// Publishes the last request once more, as if its message had been late.
    async fn tell_again(&self, uid: &str) {
        let subscription: SubscriptionUid = uid.to_owned().try_into().unwrap();
        let jetstream = self.world.nats.jetstream(User::Admin).await.unwrap();
        let state = jetstream.get_key_value(STATE_BUCKET).await.unwrap();
        let answered = state.entry(test_key(&subscription)).await.unwrap().unwrap();
        let test = TestRecord { result: None, ..record::decode(&answered.value).unwrap() };
        let subject = test_due(&subscription);
        let request = answered.revision - 1;
        let delivery = TestDelivery { version: record::VERSION, subscription, revision: 0, request, test };
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(TEST_HEADER, serde_json::to_string(&delivery).unwrap());
        jetstream.publish_with_headers(subject, headers, "".into()).await.unwrap().await.unwrap();
    }

    /// Waits until nothing of the Subscription waits in NATS, and asserts that nothing was given up.
    async fn nothing_is_left(&self, uid: &str) {
        let jetstream = self.world.nats.jetstream(User::Admin).await.unwrap();
        let left = async |stream: &str| {
            let stream = jetstream.get_stream(stream).await?;
            let subjects = stream.info_with_subjects(">").await?;
            let subjects: Vec<(String, usize)> = futures::TryStreamExt::try_collect(subjects).await?;
            anyhow::Ok(subjects.into_iter().map(|(subject, _)| subject).filter(|s| s.contains(uid)).collect::<Vec<_>>())
        };
        let acked = wait_for("the test to be acked", SOON, async || {
            let left = left(PARKED_STREAM).await?;
            anyhow::ensure!(left.is_empty(), "{left:?}");
            Ok(())
        });
        acked.await.unwrap();
        assert_eq!(left(DEAD_LETTER_STREAM).await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn each_new_value_sends_one_signed_test_that_counts_nowhere() {
    let (shop, _machine) = shared().await;
    // The type is not the test's, and the Producer has never had an event.
    let uid = shop.subscribe("asked", &["order.*"], json!({})).await;
    let secret = shop.world.signing_secret(&shop.namespace, "asked").await.unwrap();
    let asked = jiff::Timestamp::now();
    shop.ask_for_test("asked", "1").await;
    let test = shop.tested("asked", "1").await;
    assert_eq!((&test["outcome"], &test["httpStatus"]), (&json!("Delivered"), &json!(200)));
    let ended: jiff::Timestamp = test["time"].as_str().unwrap().parse().unwrap();
    let spare = jiff::SignedDuration::from_secs(2);
    assert!((asked - spare..jiff::Timestamp::now() + spare).contains(&ended), "{test}, asked at {asked}");
    assert!(test["duration"].as_str().unwrap().ends_with("ms") && test["message"].is_null(), "{test}");

    let got = shop.requests("asked", 1).await;
    assert_eq!((got[0].header("ce-type"), got[0].header("ce-id")), ("hookwright.test", got[0].webhook_id()));
    let signed = [Signed::new(&got[0], &secret)];
    let python = verify_python(&shop.world.tools, &signed).await.unwrap();
    let javascript = verify_javascript(&shop.world.tools, &signed).await.unwrap();
    assert!(python[0].ok && javascript[0].ok, "{python:?} {javascript:?}");
    let event = python[0].event.as_ref().unwrap();
    assert_eq!(event.source, format!("/namespaces/{}/producers/orders", shop.namespace));
    assert_eq!(event.data["subscription"], json!({ "namespace": shop.namespace, "name": "asked" }));

    // Another one, and one that was there before.
    for (n, value) in [(2, "2"), (3, "1")] {
        shop.ask_for_test("asked", value).await;
        let got = shop.requests("asked", n).await;
        assert!(got[..n - 1].iter().all(|before| before.webhook_id() != got[n - 1].webhook_id()));
        shop.tested("asked", value).await;
    }

    // A reconcile, with the value that it has: an edit of the spec, after which events are delivered.
    shop.subscribe("asked", &["order.created"], json!({})).await;
    shop.publish(&shop.event("order.created", "{}")).await;
    let status = shop.status("asked", "delivered", |status| status["delivery"]["delivered"] == 1).await;
    assert_eq!(shop.receiver.count("/asked"), 4);
    assert_eq!((&status["delivery"]["failedAttempts"], &status["lastTest"]["value"]), (&json!(0), &json!("1")));
    shop.nothing_is_left(&uid).await;

    // A request that was answered comes again.
    shop.tell_again(&uid).await;
    shop.nothing_is_left(&uid).await;
    assert_eq!(shop.receiver.count("/asked"), 4);

    let kubectl = async |args: &[&str]| {
        let args = [args, &["-n", &shop.namespace]].concat();
        shop.world.control_plane.kubectl(&args).await.unwrap()
    };
    let described = kubectl(&["describe", "hsub", "asked"]).await;
    let (_, described) = described.split_once("Last Test:").unwrap();
    assert!(described.contains("Outcome:") && described.contains("Delivered"), "{described}");
    let wide = kubectl(&["get", "hsub", "asked", "-o", "wide"]).await;
    assert!(wide.lines().next().unwrap().contains(" TEST "), "{wide}");
}

#[tokio::test]
async fn a_failed_test_is_told_and_nothing_follows_from_it() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/sick", Answer::status(500).body("a stack trace").header("Retry-After", "1"));
    let retry = json!({ "maxAttempts": 100, "backoff": { "type": "Fixed", "delay": "1s" }, "jitterPercent": 0 });
    let delivery = json!({ "delivery": { "retry": retry, "timeout": "30s" } });
    let uid = shop.subscribe("sick", &[">"], delivery.clone()).await;
    shop.ask_for_test("sick", "500").await;
    let test = shop.tested("sick", "500").await;
    assert_eq!((&test["outcome"], &test["httpStatus"]), (&json!("Rejected"), &json!(500)));

    shop.receiver.answer("/sick", Answer::status(410));
    shop.ask_for_test("sick", "410").await;
    let test = shop.tested("sick", "410").await;
    assert_eq!((&test["outcome"], &test["httpStatus"]), (&json!("Rejected"), &json!(410)));

    shop.receiver.answer("/sick", Answer::hang());
    shop.subscribe("sick", &[">"], json!({ "delivery": { "retry": retry, "timeout": "1s" } })).await;
    shop.ask_for_test("sick", "hanging").await;
    assert_eq!(shop.tested("sick", "hanging").await["outcome"], "TimedOut");
    assert_eq!(shop.receiver.count("/sick"), 3, "no retry");
    shop.nothing_is_left(&uid).await;

    // Nobody listens there; and the edit counts for a test that is asked for in the same write.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut refused = shop.subscription("sick", &[">"], delivery.clone());
    let annotations = json!({ "hookwright.dev/send-test": "refused" });
    let url = json!({ "endpoint": { "url": format!("http://{closed}/") } });
    merge(&mut refused, json!({ "spec": url, "metadata": { "annotations": annotations } }));
    shop.world.control_plane.apply_json(&refused).await.unwrap();
    let test = shop.tested("sick", "refused").await;
    assert_eq!((&test["outcome"], &test["httpStatus"]), (&json!("ConnectionRefused"), &Value::Null));

    // It was not disabled, and none of it was counted.
    shop.receiver.answer("/sick", Answer::status(200));
    shop.subscribe("sick", &[">"], delivery).await;
    shop.publish(&shop.event("order.created", "{}")).await;
    let status = shop.status("sick", "delivered", |status| status["delivery"]["delivered"] == 1).await;
    let counts = &status["delivery"];
    assert_eq!((&counts["failedAttempts"], &counts["deadLettered"]), (&json!(0), &json!(0)), "{counts}");
    assert_eq!((&counts["retrying"], &status["health"]), (&json!(0), &json!("Healthy")));
    assert!(!status.to_string().contains("stack trace"));
}

#[tokio::test]
async fn a_test_finds_out_whether_a_disabled_endpoint_is_back() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/gone", Answer::status(410));
    shop.subscribe("gone", &[">"], json!({})).await;
    shop.publish(&shop.event("order.created", "{}")).await;
    shop.status("gone", "Inactive", |status| status["health"] == "Inactive").await;
    shop.receiver.answer("/gone", Answer::status(204));
    shop.ask_for_test("gone", "back?").await;
    let test = shop.tested("gone", "back?").await;
    assert_eq!((&test["outcome"], &test["httpStatus"]), (&json!("Delivered"), &json!(204)));
    // The edit that ends it is the user's.
    shop.publish(&shop.event("order.created", "{}")).await;
    let status = shop.status("gone", "another waits", |status| !status["delivery"]["behind"].is_null()).await;
    assert_eq!((&status["health"], shop.receiver.count("/gone")), (&json!("Inactive"), 2));
    assert_eq!(status["delivery"]["deadLettered"], 1);
}

#[tokio::test]
async fn nothing_is_sent_while_not_ready_and_then_it_is() {
    let (shop, _machine) = shared().await;
    let plane = &shop.world.control_plane;
    let keys = json!({ "signing": { "keys": [{ "secretKeyRef": { "name": "mine", "key": "secret" } }] } });
    let mut keyless = shop.subscription("keyless", &[">"], keys);
    keyless["metadata"]["annotations"] = json!({ "hookwright.dev/send-test": "first" });
    plane.apply_json(&keyless).await.unwrap();
    let pending = |test: &Value| test["outcome"] == "Pending";
    let test = shop.tested_until("keyless", "first", pending).await;
    assert!(test["message"].as_str().unwrap().contains("mine") && test["time"].is_null(), "{test}");

    // Shut out of another namespace's Producer: the record is taken away, and the test with it.
    let other = Shop::open(shop.world, json!({ "allowedNamespaces": { "from": "All" } })).await;
    let foreign = json!({ "producerRef": { "name": "orders", "namespace": other.namespace } });
    shop.subscribe("foreign", &[">"], foreign).await;
    let grant = async |from: &str| {
        let patch = json!({ "spec": { "allowedNamespaces": { "from": from } } }).to_string();
        let patch = ["patch", "hprod/orders", "-n", &other.namespace, "--type=merge", "-p", &patch];
        plane.kubectl(&patch).await.unwrap();
    };
    grant("Same").await;
    let shut_out = |status: &Value| condition(status, "Ready")["reason"] == "RefNotPermitted";
    shop.status("foreign", "shut out", shut_out).await;
    shop.ask_for_test("foreign", "in?").await;
    let test = shop.tested_until("foreign", "in?", pending).await;
    assert!(test["message"].as_str().unwrap().contains("allowedNamespaces"), "{test}");
    assert_eq!((shop.receiver.count("/keyless"), shop.receiver.count("/foreign")), (0, 0));

    // Not wanted any more.
    shop.ask_for_test("foreign", "").await;
    shop.status("foreign", "silent", |status| status["lastTest"].is_null()).await;
    grant("All").await;
    shop.world.wait_ready(&shop.namespace, "subscriptions", "foreign").await.unwrap();
    shop.ask_for_test("foreign", "in now?").await;
    assert_eq!(shop.tested("foreign", "in now?").await["outcome"], "Delivered");
    assert_eq!(shop.receiver.count("/foreign"), 1);

    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": { "secret": key },
        "metadata": {
            "name": "mine", "namespace": shop.namespace, "labels": { "hookwright.dev/use": "signing" },
        },
    });
    plane.apply_json(&secret).await.unwrap();
    shop.tested_until("keyless", "first", |test| test["outcome"] == "Delivered").await;
    let got = shop.requests("keyless", 1).await;
    let verdicts = verify_python(&shop.world.tools, &[Signed::new(&got[0], key)]).await.unwrap();
    assert!(verdicts[0].ok, "{verdicts:?}");
}

#[tokio::test]
async fn a_value_may_be_anything() {
    let (shop, _machine) = shared().await;
    shop.subscribe("hostile", &[">"], json!({})).await;
    let hostile = format!("\u{1b}[31m\n{}", "x".repeat(10 << 10));
    shop.ask_for_test("hostile", &hostile).await;
    let status = shop.status("hostile", "tested", |status| !status["lastTest"].is_null()).await;
    let value = status["lastTest"]["value"].as_str().unwrap();
    assert!(value.starts_with("sha256:") && value.len() == 71, "{value}");
    // Another one of that length is another one; the same is the same.
    shop.ask_for_test("hostile", &format!("{hostile}x")).await;
    shop.status("hostile", "tested again", |status| status["lastTest"]["value"] != value).await;
    shop.subscribe("hostile", &["order.*"], json!({})).await;
    assert_eq!(shop.receiver.count("/hostile"), 2);
}

/// Has a world of its own: it kills what sends.
#[tokio::test]
async fn a_value_is_sent_once_whoever_restarts() {
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let patient = json!({ "delivery": { "timeout": "30s" } });
    shop.subscribe("kept", &[">"], patient.clone()).await;
    shop.ask_for_test("kept", "1").await;
    shop.tested("kept", "1").await;

    // The operator starts again with the value there; so it does with one that came while it was away, and with a
    // status that was lost.
    world.operator.kill9().unwrap();
    shop.ask_for_test("kept", "2").await;
    world.operator.restart().unwrap();
    world.operator.wait_ready(SOON).await.unwrap();
    shop.tested("kept", "2").await;
    let lose = json!({ "status": { "lastTest": null } }).to_string();
    let lose = ["patch", "hsub/kept", "-n", &shop.namespace, "--subresource=status", "--type=merge", "-p", &lose];
    world.operator.kill9().unwrap();
    world.control_plane.kubectl(&lose).await.unwrap();
    world.operator.restart().unwrap();
    shop.tested("kept", "2").await;
    world.operator.kill9().unwrap();
    world.operator.restart().unwrap();
    world.operator.wait_ready(SOON).await.unwrap();
    shop.subscribe("kept", &["order.*"], patient).await;
    assert_eq!(shop.receiver.count("/kept"), 2);

    // Dispatchers die before the answer: it comes again, the same.
    shop.receiver.script("/kept", |request| if request.nth < 3 { Answer::hang() } else { Answer::status(200) });
    shop.ask_for_test("kept", "3").await;
    shop.requests("kept", 3).await;
    world.dispatchers.iter().for_each(|dispatcher| dispatcher.kill9().unwrap());
    // It ends once somebody is there; of the values that come meanwhile the last one is sent.
    shop.ask_for_test("kept", "4").await;
    shop.ask_for_test("kept", "5").await;
    world.dispatchers.iter().for_each(|dispatcher| dispatcher.restart().unwrap());
    assert_eq!(shop.tested("kept", "5").await["outcome"], "Delivered");
    let got = shop.requests("kept", 5).await;
    assert_eq!(got.len(), 5);
    assert_eq!(got[2].webhook_id(), got[3].webhook_id());
    assert_ne!(got[3].webhook_id(), got[4].webhook_id());

    // Nobody is there.
    for dispatcher in &world.dispatchers {
        assert!(dispatcher.terminate().await.unwrap().success());
    }
    let gone = |test: &Value| test["outcome"] == "Pending";
    shop.ask_for_test("kept", "6").await;
    assert_eq!(shop.tested_until("kept", "6", gone).await["message"], "No dispatcher is alive.");
    world.dispatchers[0].restart().unwrap();
    shop.tested_until("kept", "6", |test| test["outcome"] == "Delivered").await;
    assert_eq!(shop.receiver.count("/kept"), 6);

    once_in_three("a test behind a full lane", async |n| behind_a_full_lane(&shop, &format!("full-{n}")).await).await;
}

/// Asks for a test of a Subscription whose attempts all hang. An error says that they no longer did when it was sent.
async fn behind_a_full_lane(shop: &Shop<'_>, name: &str) -> anyhow::Result<()> {
    let is_test = |request: &Received| request.header("ce-type") == "hookwright.test";
    shop.receiver.script(
        &format!("/{name}"),
        move |request| {
            if is_test(request) { Answer::status(200) } else { Answer::hang() }
        },
    );
    shop.subscribe(name, &[name], json!({ "delivery": { "timeout": "30s" } })).await;
    for n in 0..400 {
        shop.publish(&shop.event(name, format!("{n}"))).await;
    }
    // A 64th of the dispatcher's slots.
    shop.requests(name, 8).await;
    shop.ask_for_test(name, "1").await;
    assert_eq!(shop.tested(name, "1").await["outcome"], "Delivered");
    let requests = shop.receiver.requests(&format!("/{name}"));
    let test = requests.iter().find(|request| is_test(request)).unwrap();
    let waited = test.at - requests[0].at;
    anyhow::ensure!(waited < TIMEOUT, "{waited:?}: the attempts had timed out");
    assert_eq!(test.nth, 8, "the lane was full");
    Ok(())
}
