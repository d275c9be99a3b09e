//! Operator and dispatchers of different releases, side by side.

use hookwright_e2e::{Dispatcher, Event, Options, World, wait_for};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::corners::{each_arrived, publish_until, receipts};
use crate::shop::{SOON, Shop, all_loaded, beside, condition};

const FEATURE: &str = "Validation";

/// Waits until the Producer's condition Programmed has this status and reason for the current generation.
async fn programmed(shop: &Shop<'_>, status: &str, reason: &str) {
    let is_so = |object: &Value| {
        let found = condition(&object["status"], "Programmed");
        let generation = &object["metadata"]["generation"];
        found["status"] == status && found["reason"] == reason && found["observedGeneration"] == *generation
    };
    let plane = &shop.world.control_plane;
    let what = format!("Programmed={status} {reason}");
    plane.wait_until(&shop.namespace, "producers", "orders", &what, SOON, is_so).await.unwrap();
}

/// Waits until 100 more events have arrived.
async fn goes_on(shop: &Shop<'_>) {
    let before = shop.receiver.count("/all");
    shop.receiver.wait_count("/all", before + 100, SOON).await.unwrap();
}

/// Edits what the Producer `guarded` withholds, waits until nothing is sent to its Subscription, and publishes.
async fn guard(shop: &Shop<'_>) {
    let policies = json!([{ "from": "All", "exclude": ["/secret"], "filters": [{ "exact": { "region": "eu" } }] }]);
    let patch = json!({ "spec": { "payloadPolicies": policies } }).to_string();
    let edit = ["patch", "-n", &shop.namespace, "producers.hookwright.dev/guarded", "--type=merge", "-p", &patch];
    shop.world.control_plane.kubectl(&edit).await.unwrap();
    let rests = |status: &Value| {
        condition(status, "Delivering")["status"] == "False" && status["effectivePayload"]["producerPolicy"] == true
    };
    shop.status("guarded", "nothing to be sent", rests).await;
    publish_guarded(shop).await;
}

/// Publishes an event that the policy permits, and one that it forbids.
async fn publish_guarded(shop: &Shop<'_>) {
    for region in ["us", "eu"] {
        let event = Event::new(format!("{}.guarded.a", shop.namespace), r#"{"open":1,"secret":"hush"}"#);
        shop.publish(&event.header("ce-region", region)).await;
    }
}

/// Lets Producers have a value that this release doesn't know, as the definitions of a newer one would, and gives it to the
/// Producer. Waits until the operator can't read that.
async fn newer(shop: &Shop<'_>) {
    let value = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/validation/enum/-";
    let allow = json!([{ "op": "add", "path": value, "value": "Later" }]).to_string();
    let plane = &shop.world.control_plane;
    plane.kubectl(&["patch", "crd", "producers.hookwright.dev", "--type=json", "-p", &allow]).await.unwrap();
    wait_for("the Producer to be unreadable", SOON, async || {
        validate(shop, json!("Later")).await?;
        let metrics = shop.world.operator.metrics().await?;
        anyhow::ensure!(metrics.contains(r#"hookwright_operator_unreadable_objects{kind="Producer"} 1"#), "{metrics}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Takes both back.
async fn older(shop: &Shop<'_>) {
    validate(shop, json!(null)).await.unwrap();
    let last = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/validation/enum/3";
    let forbid = json!([{ "op": "remove", "path": last }]).to_string();
    let plane = &shop.world.control_plane;
    plane.kubectl(&["patch", "crd", "producers.hookwright.dev", "--type=json", "-p", &forbid]).await.unwrap();
}

async fn validate(shop: &Shop<'_>, how: Value) -> anyhow::Result<()> {
    let patch = json!({ "spec": { "validation": how } }).to_string();
    let edit = ["patch", "-n", &shop.namespace, "producers.hookwright.dev/orders", "--type=merge", "-p", &patch];
    shop.world.control_plane.kubectl(&edit).await.map(drop)
}

#[tokio::test]
async fn an_edit_stops_the_former_destination_while_the_operator_can_not_read_the_producer() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let (shop, plane) = (Shop::open(&world, json!({})).await, &world.control_plane);
    for name in ["moved", "paused", "same"] {
        shop.subscribe(name, &[">"], json!({})).await;
    }
    shop.publish(&shop.event("a", "before")).await;
    for name in ["moved", "paused", "same"] {
        shop.requests(name, 1).await;
    }
    newer(&shop).await;
    // From now on the operator knows no form of the Producer, and each record is another operator's.
    world.operator.kill9().unwrap();
    world.operator.restart().unwrap();
    world.operator.wait_ready(SOON).await.unwrap();
    let edits = [
        ("moved", json!({ "endpoint": { "url": shop.receiver.url("/there") } })),
        ("paused", json!({ "suspend": true })),
    ];
    for (name, spec) in edits {
        plane.apply_json(&shop.subscription(name, &[">"], spec)).await.unwrap();
    }
    let waits = |object: &Value| {
        let refs = condition(&object["status"], "ResolvedRefs");
        refs["observedGeneration"] == object["metadata"]["generation"]
            && refs["message"] == "Waiting until the Producer can be read."
    };
    for name in ["moved", "paused"] {
        plane.wait_until(&shop.namespace, "subscriptions", name, "to wait", SOON, waits).await.unwrap();
    }
    all_loaded(&world).await;
    shop.publish(&shop.event("a", "after")).await;
    assert_eq!(shop.requests("same", 2).await[1].body, "after");

    older(&shop).await;
    assert_eq!(shop.requests("there", 1).await[0].body, "after");
    assert_eq!((shop.receiver.count("/moved"), shop.receiver.count("/paused")), (1, 1));
    shop.subscribe("paused", &[">"], json!({ "suspend": false })).await;
    assert_eq!(shop.requests("paused", 2).await[1].body, "after");
}

#[tokio::test]
async fn a_record_that_an_older_dispatcher_can_not_read_waits_for_it_and_a_later_one_loses_nothing() {
    let _machine = beside().await;
    let older = json!({ "environment": { "HOOKWRIGHT_TEST_LACKS": format!("{FEATURE},PayloadPolicyFilters") } });
    let world = World::start(Options { dispatcher: older, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    shop.produce("guarded", "guarded", json!({})).await;
    shop.subscribe("guarded", &[">"], json!({ "producerRef": { "name": "guarded" } })).await;
    let (stop, older) = (CancellationToken::new(), &world.dispatchers[0]);
    let upgrade = async {
        // The operator first: the former record stays.
        goes_on(&shop).await;
        let patch = json!({ "spec": { "validation": "Warn" } }).to_string();
        let edit = ["patch", "-n", &shop.namespace, "producers.hookwright.dev/orders", "--type=merge", "-p", &patch];
        world.control_plane.kubectl(&edit).await.unwrap();
        programmed(&shop, "Unknown", "WaitingForDispatchers").await;
        goes_on(&shop).await;
        guard(&shop).await;
        let newer = Dispatcher::spawn(world.folder(), "newer", &world.nats, &world.sealing, &json!({})).unwrap();
        newer.wait_ready(SOON).await.unwrap();
        goes_on(&shop).await;
        assert_eq!(shop.receiver.count("/guarded"), 0, "an older dispatcher is alive");
        assert!(older.terminate().await.unwrap().success());
        programmed(&shop, "True", "Programmed").await;
        goes_on(&shop).await;
        assert_eq!(shop.requests("guarded", 1).await[0].body, r#"{"open":1}"#);
        // Dispatchers are rolled back: the older one takes nothing that it can't read.
        older.restart().unwrap();
        wait_for("the older dispatcher to meet the record", SOON, async || {
            let logs = older.logs();
            anyhow::ensure!(logs.contains(&format!("has the feature {FEATURE}")), "{logs}");
            Ok(())
        })
        .await
        .unwrap();
        goes_on(&shop).await;
        publish_guarded(&shop).await;
        assert_eq!(shop.requests("guarded", 2).await[1].body, r#"{"open":1}"#);
        assert!(newer.terminate().await.unwrap().success());
        programmed(&shop, "False", "Unserved").await;
        newer.restart().unwrap();
        goes_on(&shop).await;
        assert!(older.terminate().await.unwrap().success());
        programmed(&shop, "True", "Programmed").await;
        stop.cancel();
        newer
    };
    let (published, _newer) = tokio::join!(publish_until(&shop, "a", &stop), upgrade);
    each_arrived(&shop, "/all", 0..published).await;
    let twice = receipts(&shop, "/all").values().filter(|n| **n > 1).count();
    println!("{published} events under upgrades and roll-backs: 0 lost, {twice} twice");
}
