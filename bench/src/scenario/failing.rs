//! Endpoints that fail.

use std::time::{Duration, Instant};

use anyhow::Result;
use hookwright_e2e::wait_for;
use serde_json::json;

use super::Scale;
use super::drain::{drain, fill, topic};
use crate::cpu::Recorder;
use crate::event::now;
use crate::lab::{ARRIVAL, Endpoint, HOOKWRIGHT, Lab};
use crate::report::{Figure, Report};
use crate::sink::Behaviour;
use crate::tally::{Tally, Wanted};

/// F: the same drain with ten healthy endpoints, and with two of the ten failing.
pub(super) async fn a_fifth(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let events = scale.deliveries / 4;
    let (healthy_topic, endpoints) = topic(lab, &[Behaviour::Ok; 10]).await?;
    let (_, wanted) = fill(lab, &healthy_topic, events, &endpoints).await?;
    let all_healthy = drain(lab, 1, &wanted).await?;
    all_healthy.tally.clone().exact()?;
    lab.dispatch_ready(1).await?;
    lab.delete(healthy_topic).await?;

    let mut behaviours = [Behaviour::Ok; 10];
    behaviours[..2].fill(Behaviour::Failing(100));
    let (topic, endpoints) = topic(lab, &behaviours).await?;
    let (failing, healthy) = endpoints.split_at(2);
    let (_, wanted) = fill(lab, &topic, events, healthy).await?;
    lab.forget().await?;
    lab.dispatch(1).await?;
    let recorder = Recorder::start(lab.watched()?);
    let run = lab.collect_of(recorder, &wanted, healthy).await?;
    run.tally.clone().exact()?;
    let attempts = run.tally.refused;
    report.add([
        Figure::new(
            "throughput of the healthy / all healthy",
            run.tally.rate() / (all_healthy.tally.rate() * 0.8),
            "x",
        ),
        Figure::new(
            "CPU per request / all healthy",
            run.cpu_per_attempt(HOOKWRIGHT) / all_healthy.cpu_per_delivery(HOOKWRIGHT),
            "x",
        ),
        Figure::new("CPU per request", run.cpu_per_attempt(HOOKWRIGHT), "us"),
        Figure::new("requests that were answered with 503", attempts as f64, ""),
        Figure::new("endpoints that fail", failing.len() as f64, ""),
    ]);
    lab.dispatch_ready(1).await?;
    lab.delete(topic).await
}

const RATE: u32 = 500;

/// H: two endpoints get each event; one is down for the time of the load, then comes back.
pub(super) async fn recovery(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    lab.dispatch_ready(1).await?;
    let topic = lab.topic().await?;
    let (healthy, down) = (lab.endpoint(Behaviour::Ok), lab.endpoint(Behaviour::Gate));
    let retry = json!({ "delivery": { "retry": { "backoff": { "type": "Fixed", "delay": "10s" } } } });
    let subscriptions =
        vec![topic.subscription("drain", &healthy, &json!({})), topic.subscription("drain", &down, &retry)];
    lab.subscribe(&topic, subscriptions).await?;
    lab.sink.set_gate(false).await?;
    lab.forget().await?;
    let mut published =
        lab.publish_steadily(&topic, RATE, Duration::from_secs(scale.seconds), |_| "drain".to_owned()).await?;
    lab.sink.set_gate(true).await?;
    let (back, opened) = (Instant::now(), now());
    let waiting = published.len();
    // The load goes on while it catches up.
    let lasting = Duration::from_secs(scale.seconds.div_ceil(2));
    published.extend(lab.publish_steadily(&topic, RATE, lasting, |_| "drain".to_owned()).await?);
    wait_for("all webhooks to arrive", ARRIVAL, async || {
        let accepted = lab.sink.accepted().await?;
        anyhow::ensure!(accepted >= published.len() * 2, "{accepted} of {} were accepted", published.len() * 2);
        Ok(())
    })
    .await?;
    let receipts = lab.sink.take().await?;
    let to =
        |endpoint: &Endpoint| -> Vec<Wanted> { published.iter().map(|number| (endpoint.number, *number)).collect() };
    let of = |endpoint: &Endpoint| {
        receipts.iter().filter(|receipt| receipt.endpoint == endpoint.number).copied().collect::<Vec<_>>()
    };
    let others = Tally::of(&to(&healthy), &of(&healthy))?.exact()?;
    let recovered = Tally::of(&to(&down), &of(&down))?.exact()?;
    let before = receipts
        .iter()
        .filter(|receipt| receipt.endpoint == down.number && receipt.accepted && receipt.published < opened);
    let drained = before.map(|receipt| receipt.at).max().unwrap_or(opened).saturating_sub(opened);
    report.add([
        Figure::new("lost", (others.lost + recovered.lost) as f64, "").at_most(0.0),
        Figure::new("deliveries that waited", waiting as f64, ""),
        Figure::new("time to drain them", drained as f64 / 1e9, "s"),
        Figure::new("p99 of the other endpoint", others.latency.p99_ms, "ms"),
        Figure::new("max of the other endpoint", others.latency.max_ms, "ms"),
        Figure::new("attempts that failed", recovered.refused as f64, ""),
    ]);
    report.progress(&format!("all were there {:.1} s after it came back", back.elapsed().as_secs_f64()));
    lab.delete(topic).await
}
