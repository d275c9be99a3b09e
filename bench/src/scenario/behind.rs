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
use crate::sink::{Behaviour, Receipt};
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

/// The loads one after the other: without the endpoints, while they are up, while they are down, and when they are up again.
struct Loads {
    without: Load,
    wanted: [Load; 3],
}

async fn loads(
    lab: &Lab,
    topic: &Topic,
    gated: &[Endpoint],
    (rate, short, down): (u32, Duration, Duration),
    report: &Report,
) -> Result<Loads> {
    lab.sink.set_gate(true).await?;
    lab.forget().await?;
    let without = load(lab, topic, rate, short).await?;
    let subscriptions = gated.iter().map(|endpoint| topic.subscription(KIND, endpoint, &json!({})));
    lab.create(topic, subscriptions.collect()).await?;
    lab.wait_subscribed(1 + gated.len()).await?;
    report.progress("all are up");
    let before = load(lab, topic, rate, short).await?;
    report.progress("down");
    lab.sink.set_gate(false).await?;
    let waited = load(lab, topic, rate, down).await?;
    report.progress("up again");
    lab.sink.set_gate(true).await?;
    let after = load(lab, topic, rate, short).await?;
    Ok(Loads { without, wanted: [before, waited, after] })
}

/// Compares what has arrived with what is wanted of each load.
fn compare(lab: &Lab, left: &mut Vec<Receipt>, wanted: impl Iterator<Item = Vec<Wanted>>) -> Result<Vec<Tally>> {
    let one = |wanted: Vec<Wanted>| {
        let (these, rest) = part(std::mem::take(left), &wanted);
        *left = rest;
        lab.compare(&wanted, &these)?.complete()
    };
    wanted.map(one).collect()
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
    let Loads { without, wanted: loads } = loads(lab, &topic, &gated, (rate, short, down), report).await?;
    let wanted = |load: &Load| pairs(&gated, &load.published);
    let of_others = |load: &Load| pairs(std::slice::from_ref(&healthy), &load.others);
    let all = loads.iter().map(|load| wanted(load).len() + load.others.len()).sum::<usize>();
    lab.all_accepted(all + without.others.len()).await?;
    lab.settled().await?;
    lab.nothing_parked(&topic).await?;
    let mut left = lab.sink.take().await?;
    compare(lab, &mut left, std::iter::once(of_others(&without)))?;
    let others = compare(lab, &mut left, loads.iter().map(of_others))?;
    let tallies = compare(lab, &mut left, loads.iter().map(wanted))?;
    ensure!(left.is_empty(), "{} requests arrived that are none of these", left.len());

    report.progress("the same endpoints, without an outage");
    let (_, wanted) = fill(lab, &topic, loads[1].published.len() as u64, SIZE, &gated).await?;
    let reference = drain(lab, 1, &wanted).await?.tally.exact()?;
    let total = |of: fn(&Tally) -> usize| tallies.iter().map(of).sum::<usize>() as f64;
    let (took, cpu) = (tallies[1].took().as_secs_f64(), |load: &Load| load.cpu - without.cpu);
    let p99 = |at: usize| others[at].latency.p99_ms / others[0].latency.p99_ms;
    report.add([
        Figure::new("lost", total(|tally| tally.lost), "").at_most(0.0),
        Figure::new("deliveries that waited", tallies[1].wanted as f64, ""),
        Figure::new("time to drain them / a drain of as many", took / reference.took().as_secs_f64(), "x").at_most(1.3),
        Figure::new("time to drain them", took, "s"),
        Figure::new("duplicates", total(|tally| tally.duplicates), "").at_most((IN_FLIGHT * gated.len()) as f64),
        Figure::new("attempts that failed", total(|tally| tally.refused), ""),
        Figure::new("CPU for them while down / up", cpu(&loads[1]) / cpu(&loads[0]).max(1e-6), "x").at_most(0.1),
        Figure::new("p99 of another, while down / before", p99(1), "x").at_most(1.5),
        Figure::new("p99 of another, afterwards / before", p99(2), "x"),
    ]);
    lab.dispatch_ready(1).await?;
    lab.delete(topic).await
}
