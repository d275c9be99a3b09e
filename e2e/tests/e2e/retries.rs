//! When an attempt fails.

use std::time::Duration;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::outcome::OutcomeKind;
use hookwright_e2e::{Answer, Received};
use serde_json::{Value, json};

use crate::shop::{once_in_three, schedule, shared};

/// How long an attempt may take on a busy machine.
const LATE: Duration = Duration::from_secs(30);

fn gaps(requests: &[std::sync::Arc<Received>]) -> Vec<Duration> {
    requests.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).collect()
}

#[tokio::test]
async fn fails_twice_then_succeeds_at_the_times_of_the_policy() {
    let (shop, _machine) = shared().await;
    shop.receiver.fail_first("/flaky", 2, Answer::status(503));
    shop.receiver.answer("/away", Answer::status(503));
    let policy = |delay: &str| {
        let retry = json!({ "backoff": { "type": "Exponential", "delay": delay, "factor": 2 }, "jitterPercent": 25 });
        json!({ "delivery": { "retry": retry } })
    };
    shop.subscribe("flaky", &[">"], policy("4s")).await;
    shop.subscribe("away", &[">"], policy("200s")).await;
    shop.publish(&shop.event("order.created", "{}")).await;

    // It is counted a moment before it is stored and has a time.
    let waits = |s: &Value| {
        let delivery = &s["delivery"];
        let timed = delivery["nextAttemptTime"].is_string();
        delivery["retrying"] == 1 && delivery["failedAttempts"] == 1 && timed
    };
    let status = shop.status("away", "retrying after one failure", waits).await;
    let (last, next) = (&status["delivery"]["lastAttempt"], &status["delivery"]["nextAttemptTime"]);
    assert_eq!((&last["outcome"], &last["httpStatus"]), (&json!("Rejected"), &json!(503)));
    let time = |value: &Value| -> jiff::Timestamp { value.as_str().unwrap().parse().unwrap() };
    let (last, next) = (time(&last["time"]), time(next));
    let ahead = Duration::try_from(next.duration_since(last)).unwrap();
    assert!(
        (Duration::from_secs(149)..Duration::from_secs(251) + LATE).contains(&ahead),
        "{ahead:?} is not 200 s +-25%"
    );
    let table = ["get", "subscriptions.hookwright.dev", "away", "-n", &shop.namespace];
    let table = shop.world.control_plane.kubectl(&table).await.unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows[0],
        ["NAME", "READY", "HEALTH", "DELIVERED", "RETRYING", "DEAD", "BEHIND", "NEXT", "AGE"],
        "{table}"
    );
    // Its health isn't known after one failure.
    assert_eq!(rows[1][..5], ["away", "True", "0", "1", "0"], "{table}");
    assert_eq!(rows[1][5].parse::<jiff::Timestamp>().unwrap(), next, "{table}");
    let wide = ["get", "subscriptions.hookwright.dev", "away", "-o", "wide", "-n", &shop.namespace];
    let wide = shop.world.control_plane.kubectl(&wide).await.unwrap();
    assert!(wide.contains("127.0.0.1") && wide.contains("Rejected"), "{wide}");

    let got = shop.requests("flaky", 3).await;
    for (gap, nominal) in gaps(&got).iter().zip([4.0, 8.0]) {
        let least = Duration::from_secs_f64(nominal * 0.75);
        assert!(*gap >= least, "{gap:?} is not {nominal} s -25%");
    }
    let delivered = |s: &Value| s["delivery"]["delivered"] == 1 && s["delivery"]["retrying"] == 0;
    let status = shop.status("flaky", "delivered", delivered).await;
    assert_eq!(status["delivery"]["lastAttempt"]["outcome"], "Delivered");
    assert_eq!(status["delivery"]["failedAttempts"], 2);
    assert!(status["delivery"]["nextAttemptTime"].is_null());
}

#[tokio::test]
async fn a_receiver_that_always_fails_leaves_a_dead_letter() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/down", Answer::status(500).body("a stack trace with a password"));
    let uid = shop.subscribe("down", &[">"], schedule(&["1s", "1s"])).await;
    shop.publish(&shop.event("order.created", r#"{"order":7}"#).header("X-Extra", "kept")).await;
    let (letter, body) = shop.dead_letter(&uid).await;
    assert_eq!(letter.reason, DeadLetterReason::AttemptsExhausted);
    assert_eq!(body, r#"{"order":7}"#);
    assert_eq!((letter.progress.attempts, letter.progress.history.len()), (3, 3));
    assert!(letter.progress.history.iter().all(|a| a.outcome == OutcomeKind::Rejected && a.http_status == Some(500)));
    assert_eq!(letter.event.event_type, "order.created");
    assert_eq!(shop.receiver.count("/down"), 3);
    assert_eq!(letter.id.unwrap().as_str(), shop.receiver.requests("/down")[0].webhook_id());
    let counted = |s: &Value| {
        let delivery = &s["delivery"];
        delivery["deadLettered"] == 1 && delivery["retrying"] == 0 && delivery["failedAttempts"] == 3
    };
    let status = shop.status("down", "counted", counted).await;
    assert_eq!(status["delivery"]["delivered"], 0);
    assert!(!status.to_string().contains("password"), "a response's body never reaches the status");
}

#[tokio::test]
async fn discard_keeps_no_dead_letter_but_counts() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/down", Answer::status(500));
    let delivery = json!({ "retry": { "maxAttempts": 1 }, "deadLetter": { "policy": "Discard" } });
    shop.subscribe("down", &[">"], json!({ "delivery": delivery })).await;
    shop.publish(&shop.event("order.created", "{}")).await;
    shop.status("down", "counted", |s| s["delivery"]["deadLettered"] == 1).await;
    assert_eq!(shop.receiver.count("/down"), 1);
}

#[tokio::test]
async fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    let (shop, _machine) = shared().await;
    shop.receiver.fail_first("/seconds", 1, Answer::status(429).header("Retry-After", "4"));
    shop.receiver.script("/date", |request| {
        if request.nth > 0 {
            return Answer::status(200);
        }
        let at = jiff::Timestamp::try_from(request.time + Duration::from_secs(5)).unwrap();
        let date = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        Answer::status(503).header("Retry-After", &date)
    });
    for name in ["seconds", "date"] {
        shop.subscribe(name, &[">"], schedule(&["1s"])).await;
    }
    shop.publish(&shop.event("order.created", "{}")).await;
    // A date has whole seconds: up to one less.
    for (name, low) in [("seconds", 4.0), ("date", 4.0)] {
        let got = shop.requests(name, 2).await;
        assert!(gaps(&got)[0] >= Duration::from_secs_f64(low - 0.1), "{name}: {:?}", gaps(&got));
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_never_followed() {
    let (shop, _machine) = shared().await;
    let target = shop.receiver.url("/target");
    shop.receiver.answer("/moved", Answer::status(302).header("Location", &target));
    let uid = shop.subscribe("moved", &[">"], schedule(&["1s"])).await;
    shop.publish(&shop.event("order.created", "{}")).await;
    let (letter, _) = shop.dead_letter(&uid).await;
    assert!(letter.progress.history.iter().all(|attempt| attempt.http_status == Some(302)));
    assert_eq!((shop.receiver.count("/moved"), shop.receiver.count("/target")), (2, 0));
}

#[tokio::test]
async fn a_deadline_ends_the_retries_with_one_last_attempt() {
    let (shop, _machine) = shared().await;
    // No attempt follows one that takes until the deadline.
    once_in_three("a last attempt", async |n| {
        let name = format!("down-{n}");
        shop.receiver.answer(&format!("/{name}"), Answer::status(500));
        // The first wait would end much later.
        let retry = json!({ "maxDuration": "4s", "backoff": { "type": "Fixed", "delay": "1h" }, "jitterPercent": 0 });
        let uid = shop.subscribe(&name, &[&name], json!({ "delivery": { "retry": retry } })).await;
        shop.publish(&shop.event(&name, "{}")).await;
        let (letter, _) = shop.dead_letter(&uid).await;
        assert_eq!(letter.reason, DeadLetterReason::DeadlineExceeded);
        let times: Vec<_> = letter.progress.history.iter().map(|attempt| attempt.time).collect();
        anyhow::ensure!(times.len() == 2, "{times:?}");
        assert!(times[1].duration_since(times[0]).as_millis() >= 3_900, "{times:?}");
        Ok(())
    })
    .await;
}
