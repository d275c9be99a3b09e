//! Endpoints that fail, or ask for a pause: only probes are sent to them.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hookwright_core::position::Waits;
use hookwright_e2e::Answer;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{at_most, delivered, publish, put_behind, reason, wait_live};
use crate::disabled::resume;
use crate::shop::{SOON, condition, once_in_three, shared};

#[tokio::test]
async fn an_endpoint_that_fails_is_probed_and_gets_everything_once_it_is_back() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/down", Answer::status(503));
    let uid = shop.subscribe("down", &["order.*"], json!({})).await;
    shop.subscribe("up", &["order.*"], json!({})).await;
    publish(&shop, 0..400).await;
    delivered(&shop, "/up", 400).await;
    let failing = |status: &Value| reason(status) == "False EndpointFailing";
    let status = shop.status("down", "failing", failing).await;
    assert_eq!(condition(&status, "Ready")["status"], "True");
    publish(&shop, 400..600).await;
    shop.all_acked(SOON * 2).await;
    // Of those that came while the breaker was open, only probes were sent.
    let number = |body: &[u8]| String::from_utf8_lossy(body).parse::<usize>().unwrap();
    let probes = shop.receiver.requests("/down").iter().filter(|request| number(&request.body) >= 400).count();
    assert!(probes < 20, "{probes} requests");
    let status = shop.status("down", "behind", |status| status["delivery"]["behind"]["events"].as_u64() >= Some(200));
    assert_eq!(status.await["delivery"]["deadLettered"], 0);

    shop.receiver.answer("/down", Answer::status(200));
    delivered(&shop, "/down", 600).await;
    wait_live(&shop, &uid).await;
    shop.status("down", "live", |status| reason(status) == "True Live" && status["delivery"]["retrying"] == 0).await;
    at_most(&shop, "/down", 0..400, 2);
    at_most(&shop, "/down", 400..600, 1);
    // What waited in the stream has gone out oldest first, many at a time.
    let requests = shop.receiver.requests("/down");
    let order: Vec<usize> =
        requests.iter().filter(|request| request.succeeded()).map(|request| number(&request.body)).collect();
    let places = |bodies: Range<usize>| {
        order.iter().enumerate().filter(|(_, n)| bodies.contains(*n)).map(|(place, _)| place).sum::<usize>()
    };
    assert!(places(400..500) < places(500..600), "{order:?}");
}

#[tokio::test]
async fn all_dispatchers_together_send_one_probe_and_ever_more_rarely() {
    let (shop, _machine) = shared().await;
    publish(&shop, 0..5).await;
    shop.all_acked(SOON).await;
    // The slot of a dispatcher whose lease lapses goes to another one, which begins anew.
    let name = once_in_three("rare probes", async |n| {
        let name = format!("probed-{n}");
        shop.receiver.answer(&format!("/{name}"), Answer::status(503));
        let uid = shop.subscribe(&name, &["order.*"], json!({})).await;
        let begun = Instant::now();
        put_behind(&shop, &uid, 1, Some(Waits { breaker: true, ..Waits::since(Timestamp::now()) })).await;
        // After 5, 10 and 20 s, up to a fifth earlier.
        for (probe, doubled) in shop.requests(&name, 3).await.iter().zip([1, 3, 7]) {
            let after = probe.at.duration_since(begun);
            anyhow::ensure!(after >= Duration::from_secs(4 * doubled), "{:?} after {after:?}", probe.nth);
        }
        Ok(name)
    })
    .await;
    // A request to resume sends one at once.
    shop.receiver.answer(&format!("/{name}"), Answer::status(200));
    resume(&shop, &name, "now").await;
    delivered(&shop, &format!("/{name}"), 5).await;
    at_most(&shop, &format!("/{name}"), 0..5, 1);
}

#[tokio::test]
async fn poison_at_the_head_of_what_waits_is_not_the_only_probe() {
    let (shop, _machine) = shared().await;
    let uid = shop.subscribe("picky", &["order.*"], json!({})).await;
    put_behind(&shop, &uid, 1, Some(Waits { breaker: true, ..Waits::since(Timestamp::now()) })).await;
    // The endpoint is back when all have failed once. It takes nothing but the last event.
    let tries = AtomicUsize::new(0);
    shop.receiver.script("/picky", move |request| {
        let taken = &request.body[..] == b"3" && tries.fetch_add(1, Ordering::Relaxed) > 0;
        Answer::status(if taken { 200 } else { 400 })
    });
    publish(&shop, 0..4).await;
    shop.all_acked(SOON).await;
    for n in 1.. {
        // A request to resume sends a probe at once.
        resume(&shop, "picky", &n.to_string()).await;
        shop.requests("picky", n).await;
        if !shop.deliveries("/picky").is_empty() {
            break;
        }
        assert!(n < 16, "each of the four had several turns");
    }
}

#[tokio::test]
async fn a_long_pause_that_the_endpoint_asks_for_is_kept() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/busy", Answer::status(429).header("Retry-After", "12"));
    shop.subscribe("busy", &["order.*"], json!({})).await;
    publish(&shop, 0..1).await;
    let first = shop.requests("busy", 1).await[0].at;
    shop.receiver.answer("/busy", Answer::status(200));
    shop.status("busy", "pausing", |status| reason(status) == "False RetryAfter").await;
    publish(&shop, 1..50).await;
    delivered(&shop, "/busy", 50).await;
    let second = shop.receiver.requests("/busy")[1].at;
    assert!(second.duration_since(first) >= Duration::from_secs(11), "{:?}", second.duration_since(first));
}
