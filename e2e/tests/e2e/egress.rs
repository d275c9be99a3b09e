//! The egress guard, from the outside. `dispatcher/src/http/sender/tests.rs` has names that resolve to forbidden addresses.

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use serde_json::json;

use crate::shop::shared;

/// 0.0.0.0 is this machine for who dials it, and not among the allowed addresses (127.0.0.0/8).
#[tokio::test]
async fn a_forbidden_address_is_blocked_and_nothing_connects() {
    let (shop, _machine) = shared().await;
    let port = shop.receiver.address().port();
    let url = format!("http://0.0.0.0:{port}/blocked");
    let uid = shop.subscribe("blocked", &[">"], json!({ "endpoint": { "url": url } })).await;
    shop.publish(&shop.event("order.created", "{}")).await;
    let (letter, _) = shop.dead_letter(&uid).await;
    assert_eq!(letter.reason, DeadLetterReason::Blocked);
    let blocked = |s: &serde_json::Value| {
        s["delivery"]["lastAttempt"]["outcome"] == "Blocked" && s["delivery"]["deadLettered"] == 1
    };
    shop.status("blocked", "Blocked", blocked).await;
    assert_eq!(shop.receiver.connections(), 0);
}
