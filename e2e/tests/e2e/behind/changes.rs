//! What changes while a Subscription is behind.

use async_nats::jetstream::stream::Config;
use hookwright_core::nats::names::POSITIONS_BUCKET;
use hookwright_e2e::{Event, User, wait_for};
use serde_json::{Value, json};

use super::{at_most, delivered, publish, suspended_with, wait_live};
use crate::schemas::{declare, schema};
use crate::shop::{SOON, TIMEOUT, condition, shared};

#[tokio::test]
async fn what_the_schemas_forbid_by_now_becomes_a_dead_letter() {
    let (shop, _machine) = shared().await;
    let uid = suspended_with(&shop, "judged", 5).await;
    let small = json!({ "type": "integer", "maximum": 3 });
    declare(&shop, &schema(&shop, "small", "order.created", &[("1", small)], json!({}))).await;
    shop.produce("orders", "events", json!({ "validation": "Enforce" })).await;
    shop.subscribe("judged", &["order.*"], json!({ "suspend": false })).await;
    delivered(&shop, "/judged", 4).await;
    let (letter, body) = shop.dead_letter(&uid).await;
    assert_eq!((letter.reason.name(), &*body), ("SchemaViolation", "4"));
    assert_eq!(shop.deliveries("/judged").len(), 4);
}

#[tokio::test]
async fn subjects_that_are_added_are_read_too() {
    let (shop, _machine) = shared().await;
    let name = format!("{}_all", shop.namespace);
    let subject = |rest: &str| format!("{}.all.{rest}", shop.namespace);
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let stream = Config { name: name.clone(), subjects: vec![subject(">")], ..Config::default() };
    jetstream.create_stream(stream).await.unwrap();
    let of = |subjects: &[&str]| {
        let subjects: Vec<_> = subjects.iter().map(|rest| subject(rest)).collect();
        json!({ "subjects": subjects, "stream": { "policy": "Existing", "name": name } })
    };
    shop.produce("all", "all", of(&["a.>"])).await;
    let suspended = |suspend: bool| json!({ "producerRef": { "name": "all" }, "suspend": suspend });
    shop.subscribe("widened", &[">"], suspended(true)).await;
    shop.publish(&Event::new(subject("a.x"), "1")).await;
    // The dedicated reader is at work before the subjects change.
    let behind = |status: &Value| status["delivery"]["behind"]["events"] == 1;
    shop.status("widened", "behind", behind).await;
    shop.produce("all", "all", of(&["a.>", "b.>"])).await;
    for body in ["2", "3", "4"] {
        shop.publish(&Event::new(subject("b.x"), body)).await;
    }
    shop.status("widened", "behind", |status| status["delivery"]["behind"]["events"] == 4).await;
    shop.subscribe("widened", &[">"], suspended(false)).await;
    delivered(&shop, "/widened", 4).await;
}

#[tokio::test]
async fn a_subscription_that_is_suspended_before_it_was_ever_ready_loses_nothing() {
    let (shop, _machine) = shared().await;
    publish(&shop, 0..5).await;
    let spec = |suspend: bool, headers: Value| {
        let start = json!({ "position": "Earliest" });
        json!({ "suspend": suspend, "startFrom": start, "endpoint": { "headers": headers } })
    };
    let missing = json!([{ "name": "a", "valueFrom": { "secretKeyRef": { "name": "missing", "key": "a" } } }]);
    let object = shop.subscription("early", &["order.*"], spec(true, missing));
    shop.world.control_plane.apply_json(&object).await.unwrap();
    shop.status("early", "not Ready", |status| condition(status, "ResolvedRefs")["status"] == "False").await;
    publish(&shop, 5..10).await;
    let uid = shop.subscribe("early", &["order.*"], spec(true, Value::Null)).await;
    publish(&shop, 10..15).await;
    shop.all_acked(SOON).await;
    assert_eq!(shop.receiver.count("/early"), 0);
    shop.subscribe("early", &["order.*"], spec(false, Value::Null)).await;
    delivered(&shop, "/early", 15).await;
    wait_live(&shop, &uid).await;
    at_most(&shop, "/early", 0..15, 1);
}

#[tokio::test]
async fn what_is_edited_removed_or_deleted_meanwhile() {
    let (shop, _machine) = shared().await;
    let uid = suspended_with(&shop, "kept", 30).await;
    let deleted = shop.subscribe("deleted", &["order.*"], json!({ "suspend": true })).await;
    for n in 0..5 {
        shop.publish(&shop.event("order.paid", format!("paid {n}"))).await;
    }
    shop.all_acked(SOON).await;
    let behind = async |uid: &str, is_there: bool| {
        wait_for("the position", SOON, async || {
            let position = super::position(&shop, uid).await;
            anyhow::ensure!(position.is_some() == is_there, "{position:?}");
            Ok(())
        })
        .await
        .unwrap();
    };
    for uid in [&uid, &deleted] {
        behind(uid, true).await;
    }
    // The position of a Subscription that waits comes back when somebody removes it. A deleted one's goes.
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    jetstream.get_key_value(POSITIONS_BUCKET).await.unwrap().delete(&uid).await.unwrap();
    behind(&uid, true).await;
    let plane = &shop.world.control_plane;
    plane.kubectl(&["delete", "hsub", "deleted", "-n", &shop.namespace, TIMEOUT]).await.unwrap();
    behind(&deleted, false).await;
    // What waits is delivered by the types of the time when it is read.
    shop.subscribe("kept", &["order.paid"], json!({ "suspend": false })).await;
    delivered(&shop, "/kept", 5).await;
    wait_live(&shop, &uid).await;
    assert_eq!((shop.deliveries("/kept").len(), shop.receiver.count("/deleted")), (5, 0));
}

#[tokio::test]
async fn what_can_no_longer_be_read_becomes_a_dead_letter() {
    let (shop, _machine) = shared().await;
    let uid = suspended_with(&shop, "unreadable", 1).await;
    let with_kind = |body: &str| shop.event("order.created", body).header("Kind", "order.kind");
    shop.publish(&with_kind("readable")).await;
    shop.all_acked(SOON).await;
    let from = json!({ "from": "Header", "header": "Kind", "stripPrefix": null });
    shop.produce("orders", "events", json!({ "eventType": from })).await;
    shop.subscribe("unreadable", &["order.*"], json!({ "suspend": false })).await;
    delivered(&shop, "/unreadable", 1).await;
    let (letter, body) = shop.dead_letter(&uid).await;
    assert_eq!((letter.reason.name(), &*body), ("Malformed", "0"));
    assert_eq!(shop.receiver.requests("/unreadable")[0].body, "readable".as_bytes());
}
