//! An endpoint that answers 410 is gone.

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_e2e::Answer;
use serde_json::json;

use crate::shop::{condition, shared};

#[tokio::test]
async fn a_410_disables_until_the_next_edit() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/gone", Answer::status(410));
    let uid = shop.subscribe("gone", &[">"], json!({})).await;
    shop.publish(&shop.event("order.created", "1")).await;
    let status = shop.status("gone", "Inactive", |status| status["health"] == "Inactive").await;
    let healthy = condition(&status, "EndpointHealthy");
    assert_eq!((&healthy["status"], &healthy["reason"]), (&json!("False"), &json!("EndpointGone")));
    assert_eq!(condition(&status, "Ready")["status"], "True", "an outage of the receiver does not fail a GitOps sync");

    // What matches meanwhile goes to the dead letters at once, whichever dispatcher takes it.
    for n in 0..10 {
        shop.publish(&shop.event("order.created", format!("{n}"))).await;
    }
    shop.status("gone", "all dead", |status| status["delivery"]["deadLettered"] == 11).await;
    assert_eq!(shop.receiver.count("/gone"), 1);
    assert_eq!(shop.dead_letter(&uid).await.0.reason, DeadLetterReason::EndpointGone);

    // An edit ends it.
    shop.subscribe("gone", &[">"], json!({ "endpoint": { "url": shop.receiver.url("/back") } })).await;
    shop.publish(&shop.event("order.created", "after")).await;
    let got = shop.requests("back", 1).await;
    assert_eq!(got[0].body, "after");
    shop.status("gone", "Healthy", |status| status["health"] == "Healthy").await;
}
