//! The egress guard, from the outside. `dispatcher/src/http/sender/tests.rs` has names that resolve to forbidden addresses.

use serde_json::{Value, json};

use crate::shop::{condition, shared};

/// 0.0.0.0 is this machine for who dials it, and not among the allowed addresses (127.0.0.0/8).
#[tokio::test]
async fn nothing_is_sent_to_a_forbidden_address_and_what_waited_goes_out_once_the_url_is_right() {
    let (shop, _machine) = shared().await;
    let port = shop.receiver.address().port();
    shop.subscribe("blocked", &[">"], json!({})).await;
    let url = format!("http://0.0.0.0:{port}/blocked");
    let forbidden = shop.subscription("blocked", &[">"], json!({ "endpoint": { "url": url } }));
    shop.world.control_plane.apply_json(&forbidden).await.unwrap();
    let refused = |status: &Value| {
        condition(status, "Accepted")["reason"] == "EndpointNotAllowed"
            && condition(status, "Delivering")["reason"] == "Refused"
    };
    shop.status("blocked", "refused", refused).await;
    shop.publish(&shop.event("order.created", "{}")).await;
    let waits = |status: &Value| status["delivery"]["behind"]["reason"] == "Refused";
    let status = shop.status("blocked", "behind", waits).await;
    assert_eq!((shop.receiver.connections(), &status["delivery"]["deadLettered"]), (0, &json!(0)));
    shop.subscribe("blocked", &[">"], json!({})).await;
    shop.requests("blocked", 1).await;
}
