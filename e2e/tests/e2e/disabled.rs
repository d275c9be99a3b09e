//! An endpoint that answers 410 is gone.

use std::collections::BTreeSet;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_e2e::Answer;
use serde_json::json;

use crate::shop::{SOON, condition, shared};

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

    assert_eq!(shop.dead_letter(&uid).await.0.reason, DeadLetterReason::EndpointGone);

    // What matches meanwhile stays in the stream, whichever dispatcher takes it.
    for n in 0..10 {
        shop.publish(&shop.event("order.created", format!("{n}"))).await;
    }
    shop.all_acked(SOON).await;
    let status = shop.status("gone", "one dead", |status| status["delivery"]["deadLettered"] == 1).await;
    assert_eq!(status["delivery"]["retrying"], 0);
    assert_eq!(shop.receiver.count("/gone"), 1);

    // An edit ends it: what waits is delivered, and what comes.
    shop.subscribe("gone", &[">"], json!({ "endpoint": { "url": shop.receiver.url("/back") } })).await;
    shop.publish(&shop.event("order.created", "after")).await;
    let got = shop.requests("back", 11).await;
    let bodies: BTreeSet<&[u8]> = got.iter().map(|request| &request.body[..]).collect();
    assert_eq!(bodies.len(), 11, "{bodies:?}");
    shop.status("gone", "Healthy", |status| status["health"] == "Healthy").await;
}
