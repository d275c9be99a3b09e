//! Steady loads: how long a webhook takes.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::drain::{KIND, pairs, topic};
use crate::cpu::Recorder;
use crate::event::SIZE;
use crate::figure::Figure;
use crate::lab::{Endpoint, Lab, Topic};
use crate::report::Report;
use crate::scale::{IN_FLIGHT, Scale};
use crate::sink::Behaviour;
use crate::tally::{Latency, Wanted};

/// The events of a steady load, each second.
pub(super) const RATE: u32 = 200;
/// How often Hookwright and its reference take turns.
const TURNS: u64 = 3;

/// Scenario D: Hookwright and R2 in turn.
pub(super) async fn latency(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (topic, endpoints) = topic(lab, &[Behaviour::Ok]).await?;
    let lasting = Duration::from_secs((scale.seconds / TURNS).max(1));
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for turn in 1..=TURNS {
        lab.dispatch_ready(1).await?;
        ours.push(steady(lab, &topic, &endpoints, lasting).await?.0);
        lab.dispatch(0).await?;
        let routes = lab.floor_routes(&topic, &endpoints).await?;
        let reference = lab.floor(&topic, &routes, IN_FLIGHT)?;
        // The first event waits for the reference to start, so it is not measured.
        let first = lab.publish(&topic, 1, SIZE, |_| KIND.to_owned()).await?;
        let first = (endpoints[0].number, first[0]);
        lab.collect(Recorder::start(vec![]), &[first]).await?;
        let (floor, mut wanted) = steady(lab, &topic, &endpoints, lasting).await?;
        floors.push(floor);
        lab.end_floor(&topic, routes, reference).await?;
        // The events that were published for the reference are Hookwright's, too.
        wanted.push(first);
        lab.dispatch_ready(1).await?;
        lab.collect(Recorder::start(vec![]), &wanted).await?.tally.exact()?;
        report.progress(&format!("turn {turn} of {TURNS}"));
    }
    let (ours, floor) = (Latency::median(&ours), Latency::median(&floors));
    report.add([Figure::new("p99 beyond R2's", ours.p99_ms - floor.p99_ms, "ms").at_most(2.0)]);
    report.add(ours.figures(""));
    report.add(floor.figures("R2's "));
    lab.delete(topic).await
}

async fn steady(lab: &Lab, topic: &Topic, endpoints: &[Endpoint], lasting: Duration) -> Result<(Latency, Vec<Wanted>)> {
    lab.forget().await?;
    let recorder = Recorder::start(vec![]);
    let published = lab.publish_steadily(topic, RATE, lasting, |_| KIND.to_owned()).await?;
    let wanted = pairs(endpoints, &published);
    let latency = lab.collect(recorder, &wanted).await?.tally.exact()?.latency;
    Ok((latency, wanted))
}

const TEN: u32 = 10;

/// How many endpoints hang in the last part.
const MANY: usize = 16;

/// Scenario E: ten endpoints, each with a type of its own. Then one of them hangs, and then others that want the same
/// type.
pub(super) async fn one_hangs(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    lab.dispatch_ready(1).await?;
    let topic = lab.topic().await?;
    let healthy: Vec<Endpoint> = (1..TEN).map(|_| lab.endpoint(Behaviour::Ok)).collect();
    let hanging: Vec<Endpoint> = (0..MANY).map(|_| lab.endpoint(Behaviour::Hang)).collect();
    let of_type = |n: usize, endpoint: &Endpoint| topic.subscription(&format!("t.{n}"), endpoint, &json!({}));
    let subscriptions = healthy.iter().chain(&hanging[..1]).enumerate().map(|(n, endpoint)| of_type(n, endpoint));
    lab.subscribe(&topic, subscriptions.collect()).await?;
    let lasting = Duration::from_secs((scale.seconds / 2).max(2));
    // The deliveries that may arrive at the endpoints that hang, any number of times.
    let mut arriving = Vec::new();
    report.progress("ten healthy");
    let without = healthy_latency(lab, &topic, &healthy, lasting, &mut arriving, &[]).await?;
    report.progress("one hangs");
    let with = healthy_latency(lab, &topic, &healthy, lasting, &mut arriving, &hanging[..1]).await?;
    let others = hanging[1..].iter().map(|endpoint| of_type(healthy.len(), endpoint));
    lab.create(&topic, others.collect()).await?;
    lab.wait_subscribed(healthy.len() + hanging.len()).await?;
    report.progress("sixteen hang");
    let with_many = healthy_latency(lab, &topic, &healthy, lasting, &mut arriving, &hanging).await?;
    report.add([
        Figure::new("p99 at the nine, one hanging / none", with.p99_ms / without.p99_ms, "x").at_most(1.5),
        Figure::new("p99 at the nine, sixteen hanging / none", with_many.p99_ms / without.p99_ms, "x"),
    ]);
    for (latency, hanging) in [(without, "none"), (with, "one"), (with_many, "sixteen")] {
        report.add(latency.figures(&format!("{hanging} hanging: ")));
    }
    lab.delete(topic).await
}

async fn healthy_latency(
    lab: &Lab,
    topic: &Topic,
    healthy: &[Endpoint],
    lasting: Duration,
    arriving: &mut Vec<Wanted>,
    hanging: &[Endpoint],
) -> Result<Latency> {
    lab.forget().await?;
    let recorder = Recorder::start(vec![]);
    // If no endpoint hangs, every tenth event is of a type that no Subscription wants.
    let tenth = if hanging.is_empty() { "nobody" } else { "t.9" };
    let index = |number: u64| (number % u64::from(TEN)) as usize;
    let kind = |number| if index(number) < healthy.len() { format!("t.{}", index(number)) } else { tenth.to_owned() };
    let published = lab.publish_steadily(topic, RATE, lasting, kind).await?;
    let (ours, others): (Vec<u64>, _) = published.into_iter().partition(|number| index(*number) < healthy.len());
    arriving.extend(pairs(hanging, &others));
    let wanted: Vec<Wanted> = ours.into_iter().map(|number| (healthy[index(number)].number, number)).collect();
    Ok(lab.collect_of(recorder, &wanted, arriving).await?.tally.exact()?.latency)
}
