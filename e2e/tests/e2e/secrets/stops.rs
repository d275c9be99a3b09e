//! What is no longer allowed stops, and an edit stops the former destination, whatever keeps the edit from being applied in
//! full. What matches meanwhile waits, and goes once it is right.

use std::time::Instant;

use hookwright_e2e::report;
use serde_json::{Value, json};

use super::{KEY_A, key, secret};
use crate::sharing::edit_producer;
use crate::shop::{SOON, Shop, all_loaded, condition, shared};

/// Subscriptions, each with a Secret of its name and of this use, what kubectl does to the Secret, and the reason that the
/// Subscription then shows. The last Secret gets a value that is too long.
const LOST: [(&str, &str, &[&str], &str); 5] = [
    ("unlabelled", "signing", &["label", "secret", "unlabelled", "hookwright.dev/use-"], "SecretNotLabelled"),
    ("deleted", "signing", &["delete", "secret", "deleted"], "SecretNotFound"),
    (
        "emptied",
        "signing",
        &["patch", "secret", "emptied", "--type=json", "-p", r#"[{ "op": "remove", "path": "/data/secret" }]"#],
        "SecretKeyMissing",
    ),
    ("token", "endpoint", &["delete", "secret", "token"], "SecretNotFound"),
    ("long", "endpoint", &[], "SecretTooLong"),
];

/// Waits until the Subscription shows the reason, and that nothing is delivered.
async fn refused(shop: &Shop<'_>, name: &str, reason: &str) {
    let check = |status: &Value| {
        let delivering = condition(status, "Delivering");
        condition(status, "ResolvedRefs")["reason"] == reason
            && condition(status, "Ready")["status"] == "False"
            && delivering["status"] == "False"
            && delivering["reason"] == "Refused"
    };
    shop.status(name, reason, check).await;
}

/// Waits until an event waits for the Subscription.
pub(super) async fn behind(shop: &Shop<'_>, name: &str) {
    shop.status(name, "behind", |status| status["delivery"]["behind"]["reason"] == "Refused").await;
}

pub(super) fn header(secret: &str) -> Value {
    json!([{ "name": "Authorization", "valueFrom": key(secret) }])
}

#[tokio::test]
async fn a_secret_that_may_no_longer_be_used_or_is_gone_stops_what_is_published_from_then_on() {
    let (shop, _machine) = shared().await;
    let plane = &shop.world.control_plane;
    let give = async |name: &str, label: &str, value: &str| {
        plane.apply_json(&secret(&shop.namespace, name, label, json!({ "secret": value }))).await.unwrap();
    };
    for (name, label, ..) in LOST {
        give(name, label, KEY_A).await;
        let spec = match label {
            "signing" => json!({ "signing": { "keys": [key(name)] } }),
            _ => json!({ "endpoint": { "headers": header(name) } }),
        };
        shop.subscribe(name, &[">"], spec).await;
    }
    shop.publish(&shop.event("order.created", "before")).await;
    for (name, ..) in LOST {
        shop.requests(name, 1).await;
    }
    let start = Instant::now();
    for (name, label, command, _) in LOST {
        if command.is_empty() {
            give(name, label, &"x".repeat(500 << 10)).await;
        } else {
            plane.kubectl(&[command, &["-n", &shop.namespace]].concat()).await.unwrap();
        }
    }
    for (name, _, _, reason) in LOST {
        refused(&shop, name, reason).await;
        report(&format!("{name}: stopped after {:?}", start.elapsed()));
    }
    all_loaded(shop.world).await;
    shop.publish(&shop.event("order.created", "after")).await;
    for (name, ..) in LOST {
        behind(&shop, name).await;
        assert_eq!(shop.receiver.count(&format!("/{name}")), 1, "{name}");
    }
    for (name, label, ..) in LOST {
        give(name, label, KEY_A).await;
    }
    for (name, ..) in LOST {
        assert_eq!(shop.requests(name, 2).await[1].body, "after", "{name}");
    }
}

#[tokio::test]
async fn an_edit_stops_the_former_destination_while_a_secret_is_missing() {
    let (shop, _machine) = shared().await;
    let plane = &shop.world.control_plane;
    shop.subscribe("edited", &[">"], json!({})).await;
    shop.publish(&shop.event("order.created", "before")).await;
    shop.requests("edited", 1).await;
    let endpoint = json!({ "url": shop.receiver.url("/there"), "headers": header("later") });
    plane.apply_json(&shop.subscription("edited", &[">"], json!({ "endpoint": endpoint }))).await.unwrap();
    refused(&shop, "edited", "SecretNotFound").await;
    all_loaded(shop.world).await;
    shop.publish(&shop.event("order.created", "after")).await;
    behind(&shop, "edited").await;
    assert_eq!((shop.receiver.count("/edited"), shop.receiver.count("/there")), (1, 0));
    plane.apply_json(&secret(&shop.namespace, "later", "endpoint", json!({ "secret": "Bearer x" }))).await.unwrap();
    let got = shop.requests("there", 1).await;
    assert_eq!((got[0].body.as_ref(), got[0].header("authorization")), (b"after".as_slice(), "Bearer x"));
    assert_eq!(shop.receiver.count("/edited"), 1);
}

#[tokio::test]
async fn an_edit_takes_effect_while_an_edit_of_the_producer_is_refused() {
    let (shop, _machine) = shared().await;
    shop.subscribe("moved", &[">"], json!({})).await;
    shop.publish(&shop.event("order.created", "before")).await;
    shop.requests("moved", 1).await;
    shop.produce("rival", "rival", json!({})).await;
    let subjects = ["events", "rival"].map(|token| format!("{}.{token}.>", shop.namespace));
    edit_producer(&shop, json!({ "subjects": subjects })).await;
    let conflict = |object: &Value| condition(&object["status"], "Accepted")["reason"] == "SubjectConflict";
    let plane = &shop.world.control_plane;
    plane.wait_until(&shop.namespace, "producers", "orders", "refused", SOON, conflict).await.unwrap();

    let there = shop.receiver.url("/there");
    shop.subscribe("moved", &[">"], json!({ "endpoint": { "url": there } })).await;
    shop.publish(&shop.event("order.created", "after")).await;
    assert_eq!(shop.requests("there", 1).await[0].body, "after");
    assert_eq!(shop.receiver.count("/moved"), 1);
}
