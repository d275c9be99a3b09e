//! An endpoint that answers 410 is gone.

use std::collections::BTreeSet;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_e2e::{Answer, Received};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, condition, fixed, merge, once_in_three, shared};

#[tokio::test]
async fn a_410_disables_until_the_next_edit() {
    let (shop, _machine) = shared().await;
    // The dispatcher that had the answer tells the others, which may not know yet when the first of these events come.
    let name = &once_in_three("one attempt", async |n| {
        let name = format!("gone-{n}");
        let attempts = disable(&shop, &name).await;
        anyhow::ensure!(attempts == 1, "{attempts} attempts at {name}");
        Ok(name)
    })
    .await;

    // An edit ends it: what waits is delivered, and what comes.
    shop.subscribe(name, &[name], json!({ "endpoint": { "url": shop.receiver.url("/back") } })).await;
    shop.publish(&shop.event(name, "after")).await;
    let got = shop.requests("back", 11).await;
    let bodies: BTreeSet<&[u8]> = got.iter().map(|request| &request.body[..]).collect();
    assert_eq!(bodies.len(), 11, "{bodies:?}");
    shop.status(name, "Healthy", |status| status["health"] == "Healthy").await;
}

/// A Subscription of this name, whose endpoint is gone, and eleven events to it. Returns how many were attempted.
async fn disable(shop: &Shop<'_>, name: &str) -> usize {
    let path = format!("/{name}");
    shop.receiver.answer(&path, Answer::status(410));
    let uid = shop.subscribe(name, &[name], json!({})).await;
    shop.publish(&shop.event(name, "1")).await;
    let status = shop.status(name, "Inactive", |status| status["health"] == "Inactive").await;
    let healthy = condition(&status, "EndpointHealthy");
    assert_eq!((&healthy["status"], &healthy["reason"]), (&json!("False"), &json!("EndpointGone")));
    assert_eq!(condition(&status, "Ready")["status"], "True", "an outage of the receiver does not fail a GitOps sync");

    assert_eq!(shop.dead_letter(&uid).await.0.reason, DeadLetterReason::EndpointGone);

    // What matches meanwhile stays in the stream, whichever dispatcher takes it.
    for n in 0..10 {
        shop.publish(&shop.event(name, format!("{n}"))).await;
    }
    shop.all_acked(SOON).await;
    let given_up = |status: &Value| status["delivery"]["deadLettered"] == shop.receiver.count(&path);
    let status = shop.status(name, "what was attempted to be dead", given_up).await;
    assert_eq!(status["delivery"]["retrying"], 0);
    shop.receiver.count(&path)
}

/// Asks to resume, with this value of the annotation.
pub(crate) async fn resume(shop: &Shop<'_>, name: &str, value: &str) {
    let annotation = format!("hookwright.dev/resume={value}");
    let annotate = ["annotate", &format!("hsub/{name}"), "-n", &shop.namespace, &annotation, "--overwrite"];
    shop.world.control_plane.kubectl(&annotate).await.unwrap();
}

#[tokio::test]
async fn a_request_resumes_after_a_410_without_an_edit() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/gone", Answer::status(410));
    shop.subscribe("gone", &[">"], json!({})).await;
    shop.publish(&shop.event("order.created", "1")).await;
    shop.status("gone", "Inactive", |status| status["health"] == "Inactive").await;
    for n in 2..10 {
        shop.publish(&shop.event("order.created", format!("{n}"))).await;
    }
    shop.all_acked(SOON).await;
    // The same answer disables again; another value resumes again.
    resume(&shop, "gone", "once").await;
    shop.requests("gone", 2).await;
    shop.receiver.answer("/gone", Answer::status(200));
    shop.status("gone", "two dead", |status| {
        status["health"] == "Inactive" && status["delivery"]["deadLettered"].as_u64() >= Some(2)
    })
    .await;
    resume(&shop, "gone", "twice").await;
    shop.publish(&shop.event("order.created", "after")).await;
    shop.status("gone", "Healthy", |status| status["health"] == "Healthy").await;
    let all = |status: &Value| {
        let dead = status["delivery"]["deadLettered"].as_u64().unwrap_or_default();
        shop.deliveries("/gone").len() as u64 + dead >= 10
    };
    shop.status("gone", "each delivered or given up", all).await;
    let after = |request: &Received| request.succeeded() && &request.body[..] == b"after";
    assert!(shop.receiver.requests("/gone").iter().any(|request| after(request)));
}

#[tokio::test]
async fn an_edit_after_a_410_leaves_out_what_waits_if_that_is_asked_for() {
    let (shop, _machine) = shared().await;
    let refuse = |request: &Received| Answer::status(if &request.body[..] == b"parked" { 503 } else { 410 });
    shop.receiver.script("/gone", refuse);
    let mut spec = fixed("3s");
    merge(&mut spec, json!({ "delivery": { "onResume": "SkipToNow" } }));
    shop.subscribe("gone", &[">"], spec.clone()).await;
    shop.publish(&shop.event("order.created", "parked")).await;
    shop.status("gone", "retrying", |status| status["delivery"]["retrying"] == 1).await;
    shop.publish(&shop.event("order.created", "dead")).await;
    shop.status("gone", "Inactive", |status| status["health"] == "Inactive").await;
    for n in 0..8 {
        shop.publish(&shop.event("order.created", format!("{n}"))).await;
    }
    shop.all_acked(SOON).await;
    let waits = |status: &Value| {
        let delivering = &condition(status, "Delivering")["reason"];
        delivering == "EndpointGone" && status["delivery"]["behind"]["events"].as_u64() > Some(0)
    };
    shop.status("gone", "how many wait", waits).await;

    // What is parked still goes.
    merge(&mut spec, json!({ "endpoint": { "url": shop.receiver.url("/back") } }));
    shop.subscribe("gone", &[">"], spec).await;
    shop.status("gone", "skipped", |status| status["delivery"]["skipped"].as_u64() > Some(0)).await;
    shop.publish(&shop.event("order.created", "after")).await;
    let live =
        |status: &Value| condition(status, "Delivering")["reason"] == "Live" && status["delivery"]["retrying"] == 0;
    shop.requests("back", 2).await;
    shop.status("gone", "live", live).await;
    let requests = shop.receiver.requests("/back");
    let bodies: BTreeSet<&[u8]> = requests.iter().map(|request| &request.body[..]).collect();
    assert_eq!(bodies, BTreeSet::from([&b"after"[..], b"parked"]));
}

#[tokio::test]
async fn attempts_that_fail_for_too_long_disable_until_someone_resumes() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/down", Answer::status(503));
    let mut spec = fixed("5s");
    merge(&mut spec, json!({ "delivery": { "disableAfter": "1m" } }));
    shop.subscribe("down", &[">"], spec).await;
    shop.publish(&shop.event("order.created", "1")).await;
    let disabled = |status: &Value| condition(status, "Delivering")["reason"] == "Disabled";
    let status = shop.status("down", "disabled", disabled).await;
    assert_eq!((&status["health"], &condition(&status, "Ready")["status"]), (&json!("Inactive"), &json!("True")));
    shop.publish(&shop.event("order.created", "2")).await;
    shop.all_acked(SOON).await;
    let before = shop.receiver.count("/down");
    shop.receiver.answer("/down", Answer::status(200));
    resume(&shop, "down", "now").await;
    shop.requests("down", before + 2).await;
    let status = shop.status("down", "delivered", |status| status["delivery"]["delivered"] == 2).await;
    assert_eq!(status["delivery"]["deadLettered"], 0);
    shop.status("down", "Healthy", |status| status["health"] == "Healthy").await;
}
