//! Endpoints that are down for long and come back. What they should get waits in the stream.

use std::time::Duration;

use anyhow::{Result, ensure};
use hookwright_e2e::is_long;
use serde_json::json;

use super::drain::{KIND, drain, fill, pairs};
use crate::cpu::Recorder;
use crate::event::{SIZE, now};
use crate::figure::Figure;
use crate::lab::{Endpoint, HOOKWRIGHT, Lab, Topic, part};
use crate::report::Report;
use crate::scale::{IN_FLIGHT, Scale};
use crate::sink::Behaviour;
use crate::tally::{Tally, Wanted};

/// The type of the events of an endpoint that is always up, and how many come in a second.
const OTHER: &str = "other";
const OTHER_RATE: u32 = 200;

/// Scenario O: one endpoint is down, with 500 events in a second.
pub(super) async fn one(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let down = if is_long() { 600 } else { (scale.seconds / 2).max(2) };
    outage(lab, (1, 500), Duration::from_secs(down), scale, report).await
}

/// Scenario O2: 500 endpoints are down, each of which wants ten events in a second.
pub(super) async fn many(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let down = (scale.seconds / 2).max(2);
    outage(lab, (scale.fan_out / 2, 10), Duration::from_secs(down), scale, report).await
}

/// A load for a while.
struct Load {
    published: Vec<u64>,
    others: Vec<u64>,
    /// The CPU time of the dispatcher for each second.
    cpu: f64,
}

async fn load(lab: &Lab, topic: &Topic, rate: u32, lasting: Duration) -> Result<Load> {
    let (recorder, from) = (Recorder::start(lab.watched()?), now());
    let (published, others) = tokio::try_join!(
        lab.publish_steadily(topic, rate, lasting, |_| KIND.to_owned()),
        lab.publish_steadily(topic, OTHER_RATE, lasting, |_| OTHER.to_owned()),
    )?;
    let until = now();
    let used = recorder.stop().await?.used(HOOKWRIGHT, from, until);
    let cpu = used.as_secs_f64() / Duration::from_nanos(until - from).as_secs_f64();
    Ok(Load { published, others, cpu })
}

/// Endpoints are up, then down for a while, then up again. Afterwards the same endpoints drain as much from a stream in which
/// it waited for a dispatcher.
async fn outage(
    lab: &mut Lab,
    (endpoints, rate): (u32, u32),
    down: Duration,
    scale: Scale,
    report: &mut Report,
) -> Result<()> {
    lab.dispatch_ready(1).await?;
    let topic = lab.topic().await?;
    let healthy = lab.endpoint(Behaviour::Ok);
    let gated: Vec<Endpoint> = (0..endpoints).map(|_| lab.endpoint(Behaviour::Gate)).collect();
    let short = Duration::from_secs((scale.seconds / 6).max(1));
    lab.subscribe(&topic, vec![topic.subscription(OTHER, &healthy, &json!({}))]).await?;
    lab.sink.set_gate(true).await?;
    lab.forget().await?;
    let without = load(lab, &topic, rate, short).await?;
    let subscriptions = gated.iter().map(|endpoint| topic.subscription(KIND, endpoint, &json!({})));
    lab.create(&topic, subscriptions.collect()).await?;
    lab.wait_subscribed(1 + gated.len()).await?;
    report.progress("all are up");
    let before = load(lab, &topic, rate, short).await?;
    report.progress("down");
    lab.sink.set_gate(false).await?;
    let waited = load(lab, &topic, rate, down).await?;
    report.progress("up again");
    lab.sink.set_gate(true).await?;
    let after = load(lab, &topic, rate, short).await?;
    let others: Vec<u64> =
        [&without, &before, &waited, &after].into_iter().flat_map(|load| &load.others).copied().collect();
    let wanted = |load: &Load| pairs(&gated, &load.published);
    let all = others.len() + [&before, &waited, &after].map(|load| wanted(load).len()).iter().sum::<usize>();
    lab.all_accepted(all).await?;
    lab.settled().await?;
    lab.nothing_parked(&topic).await?;

    let mut left = lab.sink.take().await?;
    let mut compare = |wanted: &[Wanted]| {
        let (these, rest) = part(std::mem::take(&mut left), wanted);
        left = rest;
        lab.compare(wanted, &these)?.complete()
    };
    let of_others = |load: &Load| pairs(std::slice::from_ref(&healthy), &load.others);
    compare(&of_others(&without))?;
    let others: Vec<Tally> =
        [&before, &waited, &after].into_iter().map(|load| compare(&of_others(load))).collect::<Result<_>>()?;
    let tallies: Vec<Tally> =
        [&before, &waited, &after].into_iter().map(|load| compare(&wanted(load))).collect::<Result<_>>()?;
    ensure!(left.is_empty(), "{} requests arrived that are none of these", left.len());

    report.progress("the same endpoints, without an outage");
    let (_, wanted) = fill(lab, &topic, waited.published.len() as u64, SIZE, &gated).await?;
    let reference = drain(lab, 1, &wanted).await?.tally.exact()?;
    let of_them = |load: &Load| load.cpu - without.cpu;
    let duplicates = tallies.iter().map(|tally| tally.duplicates).sum::<usize>();
    let took = tallies[1].took().as_secs_f64();
    report.add([
        Figure::new("lost", tallies.iter().map(|tally| tally.lost).sum::<usize>() as f64, "").at_most(0.0),
        Figure::new("deliveries that waited", tallies[1].wanted as f64, ""),
        Figure::new("time to drain them / of a drain of as many", took / reference.took().as_secs_f64(), "x")
            .at_most(1.3),
        Figure::new("time to drain them", took, "s"),
        Figure::new("duplicates", duplicates as f64, "").at_most((IN_FLIGHT * gated.len()) as f64),
        Figure::new("attempts that failed", tallies.iter().map(|tally| tally.refused).sum::<usize>() as f64, ""),
        Figure::new("CPU for them while down / up", of_them(&waited) / of_them(&before).max(1e-6), "x").at_most(0.1),
        Figure::new("p99 of another, while down / before", others[1].latency.p99_ms / others[0].latency.p99_ms, "x")
            .at_most(1.5),
        Figure::new("p99 of another, afterwards / before", others[2].latency.p99_ms / others[0].latency.p99_ms, "x"),
    ]);
    lab.dispatch_ready(1).await?;
    lab.delete(topic).await
}
