//! Endpoints that mean harm, or do what they do when they are ill.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::FutureExt;
use hookwright_core::nats::names::dead_delivery;
use hookwright_core::sign::hmac::{SigningKey, signature_header};
use hookwright_e2e::{Answer, Dispatcher, Received, by_length, is_long, wait_for};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::beside_a_forbidden_one;
use super::table::{Fault, QUIET, Row, Table, dead_letters, row};
use super::wires::{Answers, Wire};
use crate::shop::{SOON, Shop, TIMEOUT};

/// Returns the faults that are no matter of the load.
pub(super) fn quiet<'a>(shop: &'a Shop<'a>, dispatchers: &'a [&'a Dispatcher]) -> Vec<(Row, Fault<'a>)> {
    let forms = row(1, "URLs and names of forbidden addresses, two answers, mixed answers", "0 connections", QUIET);
    let redirected = row(2, "redirects 301 to 308, and loops", "0 second requests", QUIET);
    let expected = "the slot is free by the timeout (2 s) and 1 s, memory grows by 64 MiB at most";
    let endless = row(3, "an endless body, 1 byte/s, a compressed 32 MiB, 1 MB of headers", expected, QUIET);
    let echoed = row(5, "an endpoint echoes a secret", "0 hits in status, Events, logs and metrics", QUIET);
    let expected = "attempts as scheduled, one dead letter each; one attempt after 410; none before Retry-After";
    let answers = row(13, "503, 429 with Retry-After, 410, reset, half an answer, no such name", expected, QUIET);
    vec![
        (forms, forbidden(shop).boxed_local()),
        (redirected, redirects(shop).boxed_local()),
        (endless, oversized(shop, dispatchers).boxed_local()),
        (echoed, echo(shop, dispatchers).boxed_local()),
        (answers, failures(shop).boxed_local()),
    ]
}

/// Returns the fault of a key that is replaced.
pub(super) fn rotated<'a>(shop: &'a Shop<'a>) -> (Row, Fault<'a>) {
    let rotated = row(14, "the signing key is replaced", "0 rejected by who accepts both", QUIET);
    (rotated, rotation(shop).boxed_local())
}

pub(super) async fn hanging(table: &mut Table<'_>) {
    let shop = table.shop;
    let expected = "p99 of the others <= twice that before, and 50 ms";
    table.hold(row(12, "a fifth of the endpoints hangs", expected, QUIET), hangs(shop)).await;
}

/// Delivery that is tried that often, a second apart.
fn tried(attempts: usize) -> Value {
    let backoff = json!({ "type": "Fixed", "delay": "1s" });
    json!({ "retry": { "maxAttempts": attempts, "backoff": backoff, "jitterPercent": 0 }, "timeout": "2s" })
}

/// A Subscription of events of the type `kind`, to that URL.
async fn subscribe(shop: &Shop<'_>, name: &str, kind: &str, url: &str, attempts: usize) -> String {
    let spec = json!({ "endpoint": { "url": url }, "delivery": tried(attempts) });
    shop.subscribe(name, &[kind], spec).await
}

/// Waits until each of these Subscriptions has that many dead letters, and returns how many they have then.
async fn given_up(shop: &Shop<'_>, uids: &[String], n: usize) -> anyhow::Result<Vec<usize>> {
    let mut counts = Vec::new();
    for uid in uids {
        let count = wait_for("the dead letters", SOON, async || {
            let count = dead_letters(shop, &dead_delivery(&uid.clone().try_into()?)).await?;
            ensure!(count >= n, "{count}");
            Ok(count)
        });
        counts.push(count.await?);
    }
    Ok(counts)
}

async fn remove(shop: &Shop<'_>, names: &[String]) -> anyhow::Result<()> {
    let mut command = vec!["delete", "subscriptions.hookwright.dev", "-n", &shop.namespace, TIMEOUT];
    command.extend(names.iter().map(String::as_str));
    shop.world.control_plane.kubectl(&command).await.map(drop)
}

async fn forbidden(shop: &Shop<'_>) -> anyhow::Result<String> {
    let (receiver, forbidden) = beside_a_forbidden_one().await;
    let (port, connections) = (receiver.address().port(), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    let listening = tokio::spawn(async move {
        while forbidden.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let hosts = [
        "127.0.0.2",
        "127.2",
        "0177.0.0.2",
        "0x7f000002",
        "2130706434",
        "127.0.0.2.",
        "[::ffff:127.0.0.2]",
        "[::ffff:7f00:2]",
        "[::127.0.0.2]",
        "[64:ff9b::7f00:2]",
        "user@127.0.0.2",
        "127.0.0.1@127.0.0.2",
    ];
    let mut names = Vec::new();
    for (n, host) in hosts.iter().enumerate() {
        let name = format!("form-{n}");
        let endpoint = json!({ "endpoint": { "url": format!("http://{host}:{port}/form") } });
        let object = shop.subscription(&name, &["forms"], endpoint);
        // The API server refuses some of them, and the operator the others.
        if shop.world.control_plane.apply_json(&object).await.is_ok() {
            let refused = |status: &Value| crate::shop::condition(status, "Ready")["status"] == "False";
            shop.world.wait_status(&shop.namespace, &name, "refused", SOON, refused).await?;
            names.push(name);
        }
    }
    let url = |host: &str| format!("http://{host}:{port}/{host}");
    let mut uids = Vec::new();
    for host in ["forbidden.test", "mixed.test"] {
        uids.push(subscribe(shop, &host.replace('.', "-"), "forms", &url(host), 1).await);
    }
    for host in ["rebinds.test", "right.test"] {
        subscribe(shop, &host.replace('.', "-"), "forms", &url(host), 20).await;
    }
    for n in 0..4 {
        shop.publish(&shop.event("forms", format!("{n}"))).await;
    }
    given_up(shop, &uids, 4).await?;
    // A name whose address may be dialled is dialled: the others could be.
    for host in ["rebinds.test", "right.test"] {
        receiver.wait_count(&format!("/{host}"), 4, SOON).await?;
    }
    names.extend(["forbidden", "mixed", "rebinds", "right"].map(|name| format!("{name}-test")));
    remove(shop, &names).await?;
    listening.abort();
    let (connections, at_mixed) = (connections.load(Ordering::SeqCst), receiver.count("/mixed.test"));
    ensure!(connections == 0 && at_mixed == 0, "{connections} connections, {at_mixed} by a mixed answer");
    Ok(format!("0 connections by {} URLs and 4 names", hosts.len()))
}

async fn redirects(shop: &Shop<'_>) -> anyhow::Result<String> {
    let (mut uids, mut names) = (Vec::new(), Vec::new());
    for status in [301, 302, 303, 307, 308] {
        for (kind, to) in [("away", "/second".to_owned()), ("loop", format!("/loop-{status}"))] {
            let name = format!("{kind}-{status}");
            let answer = Answer::status(status).header("Location", &shop.receiver.url(&to));
            shop.receiver.answer(&format!("/{name}"), answer);
            uids.push(subscribe(shop, &name, "redirected", &shop.receiver.url(&format!("/{name}")), 1).await);
            names.push(name);
        }
    }
    shop.publish(&shop.event("redirected", "{}")).await;
    given_up(shop, &uids, 1).await?;
    let counts: Vec<_> = names.iter().map(|name| shop.receiver.count(&format!("/{name}"))).collect();
    let second = shop.receiver.count("/second");
    ensure!(second == 0 && counts.iter().all(|n| *n == 1), "{second} second requests, {counts:?} first");
    remove(shop, &names).await?;
    Ok(format!("0 second requests after {} redirects", counts.len()))
}

/// The memory of a dispatcher in KiB.
fn memory(dispatcher: &Dispatcher) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", dispatcher.id()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

async fn oversized(shop: &Shop<'_>, dispatchers: &[&Dispatcher]) -> anyhow::Result<String> {
    let (mut wires, mut names) = (Vec::new(), Vec::new());
    for answers in [Answers::Endless, Answers::Drop, Answers::Bomb, Answers::Headers] {
        let (wire, name) = (Wire::start(answers).await, format!("{answers:?}").to_lowercase());
        subscribe(shop, &name, "oversized", &wire.url, 2).await;
        wires.push(wire);
        names.push(name);
    }
    let before: Vec<u64> = dispatchers.iter().map(|one| memory(one)).collect::<Result<_, _>>()?;
    let events = by_length(4, 10);
    for n in 0..events {
        shop.publish(&shop.event("oversized", format!("{n}"))).await;
    }
    let mut longest = Duration::ZERO;
    for wire in &mut wires {
        for _ in 0..events {
            let end = timeout(SOON, wire.ends.recv()).await.context("no end of a connection")?;
            longest = longest.max(end.context("the receiver has ended")?);
        }
    }
    let after: Vec<u64> = dispatchers.iter().map(|one| memory(one)).collect::<Result<_, _>>()?;
    let grown = after.iter().zip(before).map(|(after, before)| after.saturating_sub(before)).max().unwrap_or_default();
    remove(shop, &names).await?;
    ensure!(grown < 64 << 10, "memory grew by {grown} KiB");
    ensure!(longest < by_length(SOON, Duration::from_secs(3)), "a slot was taken for {longest:?}");
    Ok(format!("{events} each: free after {:.1} s at the most, {grown} KiB", longest.as_secs_f64()))
}

async fn echo(shop: &Shop<'_>, dispatchers: &[&Dispatcher]) -> anyhow::Result<String> {
    const CANARY: &str = "canary-that-an-endpoint-gives-back-0123456789";
    let plane = &shop.world.control_plane;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": { "token": CANARY },
        "metadata": { "name": "canary", "namespace": shop.namespace, "labels": { "hookwright.dev/use": "endpoint" } },
    });
    plane.apply_json(&secret).await?;
    let header = json!([{ "name": "x-canary", "valueFrom": { "secretKeyRef": { "name": "canary", "key": "token" } } }]);
    let (mut uids, mut names) = (Vec::new(), Vec::new());
    let answer = |status| Answer::status(status).header("x-back", CANARY).header("location", CANARY).body(CANARY);
    for status in [302, 400, 410, 429, 500] {
        let name = format!("echo-{status}");
        shop.receiver.answer(&format!("/{name}"), answer(status));
        let mut spec = json!({ "endpoint": { "headers": header }, "delivery": tried(2) });
        spec["endpoint"]["url"] = json!(shop.receiver.url(&format!("/{name}")));
        uids.push(shop.subscribe(&name, &["echoed"], spec).await);
        names.push(name);
    }
    shop.publish(&shop.event("echoed", "{}")).await;
    given_up(shop, &uids, 1).await?;
    for name in &names {
        let told = |status: &Value| status["delivery"]["lastAttempt"].is_object();
        shop.world.wait_status(&shop.namespace, name, "told", SOON, told).await?;
        ensure!(shop.receiver.requests(&format!("/{name}"))[0].header("x-canary") == CANARY, "it was not sent");
    }
    let mut said = Vec::new();
    for kinds in ["subscriptions.hookwright.dev,producers.hookwright.dev", "events.events.k8s.io"] {
        said.push(plane.kubectl(&["get", kinds, "-n", &shop.namespace, "-o", "json", "--show-managed-fields"]).await?);
    }
    said.extend([shop.world.operator.logs(), shop.world.operator.metrics().await?]);
    for dispatcher in dispatchers {
        said.extend([dispatcher.logs(), dispatcher.metrics().await?]);
    }
    remove(shop, &names).await?;
    let hits: usize = said.iter().map(|text| text.matches(CANARY).count()).sum();
    ensure!(hits == 0, "{hits} hits");
    Ok(format!("0 hits in {} KiB", said.iter().map(String::len).sum::<usize>() >> 10))
}

/// How late the 99th of a hundred requests is, measured against the one that is least late. The load is steady, so the
/// body says when an event was published.
fn p99(requests: &[Arc<Received>]) -> Duration {
    let Some(start) = requests.first().map(|request| request.at) else { return Duration::ZERO };
    let late = |request: &Received| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let n: u64 = body.rsplit('-').next()?.parse().ok()?;
        Some((request.at - start).as_secs_f64() - n as f64 / 200.0)
    };
    let mut late: Vec<f64> = requests.iter().filter_map(|request| late(request)).collect();
    late.sort_by(f64::total_cmp);
    let (Some(least), Some(p99)) = (late.first(), late.get(late.len() * 99 / 100)) else { return Duration::ZERO };
    Duration::from_secs_f64(p99 - least)
}

async fn hangs(shop: &Shop<'_>) -> anyhow::Result<String> {
    let length = by_length(Duration::from_secs(2), Duration::from_secs(20));
    let quick = ["quick-1", "quick-2", "quick-3"];
    for name in quick {
        shop.subscribe(name, &["tick"], json!({})).await;
    }
    let measure = async || {
        let before: Vec<usize> = quick.iter().map(|name| shop.receiver.count(&format!("/{name}"))).collect();
        sleep(length).await;
        let late = quick.iter().zip(before).map(|(name, n)| p99(&shop.receiver.requests(&format!("/{name}"))[n..]));
        late.max().unwrap_or_default()
    };
    let before = measure().await;
    shop.receiver.answer("/hangs", Answer::hang());
    shop.subscribe("hangs", &["tick"], json!({})).await;
    let beside = measure().await;
    let names = quick.iter().chain(&["hangs"]).map(|name| (*name).to_owned());
    remove(shop, &names.collect::<Vec<_>>()).await?;
    ensure!(!is_long() || beside <= before * 2 + Duration::from_millis(50), "p99 {before:?}, then {beside:?}");
    Ok(format!("p99 {:.1} ms, then {:.1} ms", before.as_secs_f64() * 1e3, beside.as_secs_f64() * 1e3))
}

async fn failures(shop: &Shop<'_>) -> anyhow::Result<String> {
    let answers = [
        ("unavailable", Answer::status(503), 2),
        ("busy", Answer::status(429).header("Retry-After", "2"), 2),
        ("gone", Answer::status(410), 1),
    ];
    let (mut uids, mut names, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    for (name, answer, _) in &answers {
        shop.receiver.answer(&format!("/{name}"), answer.clone());
        let uid = subscribe(shop, name, "failed", &shop.receiver.url(&format!("/{name}")), 2).await;
        // A 429 with Retry-After pauses the endpoint: attempts that only try whether it is back don't count.
        if *name != "busy" {
            uids.push(uid);
        }
        names.push((*name).to_owned());
    }
    let wires = [("reset", Wire::start(Answers::Reset).await), ("half", Wire::start(Answers::Half).await)];
    for (name, wire) in &wires {
        uids.push(subscribe(shop, name, "failed", &wire.url, 2).await);
        names.push((*name).to_owned());
    }
    uids.push(subscribe(shop, "nameless", "failed", "http://nowhere.test/", 2).await);
    names.push("nameless".to_owned());
    shop.publish(&shop.event("failed", "{}")).await;
    let counts = given_up(shop, &uids, 1).await?;
    ensure!(counts.iter().all(|n| *n == 1), "{counts:?} dead letters");
    shop.requests("busy", 2).await;
    for ((name, _, attempts), least) in answers.iter().zip([1, 2, 0]) {
        let requests = shop.receiver.requests(&format!("/{name}"));
        ensure!(requests.len() == *attempts || *name == "busy", "{name}: {} attempts", requests.len());
        if let [first, second, ..] = &requests[..] {
            let gap = second.at - first.at;
            ensure!(gap >= Duration::from_secs(least), "{name}: {gap:?} apart");
            ensure!(!is_long() || gap < Duration::from_secs(least + 3), "{name}: {gap:?} apart");
            gaps.push(format!("{name} {:.1} s", gap.as_secs_f64()));
        }
    }
    for (name, wire) in &wires {
        let requests = wire.requests.load(Ordering::SeqCst);
        ensure!(requests == 2, "{name}: {requests} attempts");
    }
    remove(shop, &names).await?;
    Ok(format!("one dead letter each; between attempts {}", gaps.join(", ")))
}

async fn rotation(shop: &Shop<'_>) -> anyhow::Result<String> {
    shop.subscribe("keys", &["tick"], json!({})).await;
    let first = shop.world.signing_secret(&shop.namespace, "keys").await?;
    let start = Instant::now();
    shop.receiver.wait_count("/keys", 100, SOON).await?;
    let annotation = "hookwright.dev/rotate-signing-key=1";
    let rotate = ["annotate", "-n", &shop.namespace, "subscriptions.hookwright.dev/keys", annotation];
    shop.world.control_plane.kubectl(&rotate).await?;
    let both = |status: &Value| status["signing"]["keys"].as_array().is_some_and(|keys| keys.len() == 2);
    shop.world.wait_status(&shop.namespace, "keys", "rotated", SOON, both).await?;
    shop.world.wait_ready(&shop.namespace, "subscriptions", "keys").await?;
    let next = shop.world.control_plane.get(&shop.namespace, "secrets", "keys-signing-1").await?;
    let next = base64::Engine::decode(
        &base64::prelude::BASE64_STANDARD,
        next["data"]["secret"].as_str().context("no key `secret`")?,
    )?;
    let keys = [first, String::from_utf8(next)?];
    let seen = shop.receiver.count("/keys");
    let requests = shop.receiver.wait_count("/keys", seen + 200, SOON).await?;
    remove(shop, &["keys".to_owned()]).await?;
    let by = |request: &Received, key: &str| {
        let time = request.header("webhook-timestamp").parse().unwrap_or_default();
        let wanted = signature_header(&[SigningKey::parse(key).unwrap()], request.webhook_id(), time, &request.body);
        request.header("webhook-signature").split(' ').any(|signature| signature == wanted)
    };
    let rejected = requests.iter().filter(|request| !keys.iter().any(|key| by(request, key))).count();
    let by_new = requests.iter().filter(|request| by(request, &keys[1])).count();
    ensure!(rejected == 0 && by_new > 0, "{rejected} rejected, {by_new} signed by the new key");
    Ok(format!("0 of {} rejected in {:.0} s, {by_new} by the new key", requests.len(), start.elapsed().as_secs_f64()))
}
