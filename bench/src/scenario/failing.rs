//! Endpoints that fail.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::drain::{KIND, drain, fill, pairs, start, topic};
use crate::event::{SIZE, now};
use crate::figure::Figure;
use crate::lab::{Endpoint, HOOKWRIGHT, Lab, part};
use crate::report::Report;
use crate::scale::Scale;
use crate::sink::Behaviour;
use crate::tally::median;

/// Scenario F: the same drain with ten healthy endpoints, and with two of the ten failing, in turn. What the failing ones
/// should get stays in the stream.
pub(super) async fn a_fifth(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let events = scale.deliveries / 4;
    let (healthy_topic, all) = topic(lab, &[Behaviour::Ok; 10]).await?;
    let mixed_topic = lab.topic().await?;
    let failing: Vec<Endpoint> = (0..2).map(|_| lab.endpoint(Behaviour::Failing(100))).collect();
    let healthy: Vec<Endpoint> = (0..8).map(|_| lab.endpoint(Behaviour::Ok)).collect();
    let subscriptions =
        failing.iter().chain(&healthy).map(|endpoint| mixed_topic.subscription(KIND, endpoint, &json!({})));
    lab.create(&mixed_topic, subscriptions.collect()).await?;
    lab.wait_subscribed(all.len() + failing.len() + healthy.len()).await?;

    let (mut rates, mut costs, mut refused) = (vec![], vec![], 0);
    // What waits from an earlier round is probed in a later one.
    let mut waiting = vec![];
    for round in 1..=scale.rounds {
        let (_, wanted) = fill(lab, &healthy_topic, events, SIZE, &all).await?;
        let alone = drain(lab, 1, &wanted).await?;
        alone.tally.clone().exact()?;
        let (published, wanted) = fill(lab, &mixed_topic, events, SIZE, &healthy).await?;
        waiting.extend(pairs(&failing, &published));
        let recorder = start(lab, 1).await?;
        let mixed = lab.collect_of(recorder, &wanted, &waiting).await?;
        lab.check()?;
        mixed.tally.clone().exact()?;
        refused = mixed.tally.refused;
        let (each, beside) = (alone.cpu_per_delivery(HOOKWRIGHT), mixed.cpu_per_delivery(HOOKWRIGHT));
        rates.push(mixed.tally.rate() / alone.tally.rate());
        costs.push(beside / each);
        report.progress(&format!("round {round}: {beside:.1} us for each delivery; {each:.1} us when all are healthy"));
    }
    report.add([
        Figure::new("throughput of the healthy / all healthy", median(rates.clone()), "x").spread(&rates),
        Figure::new("CPU per delivery / all healthy", median(costs.clone()), "x").spread(&costs),
        Figure::new("requests that were answered with 503", refused as f64, ""),
    ]);
    lab.dispatch_ready(1).await?;
    lab.delete(mixed_topic).await?;
    lab.delete(healthy_topic).await
}

const RATE: u32 = 500;
/// The wait between attempts at the endpoint that is down. By the default schedule the third wait would be half an
/// hour.
const DELAY: &str = "10s";

/// Scenario H: two endpoints get each event. One is down for the time of the load, then comes back.
pub(super) async fn recovery(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    lab.dispatch_ready(1).await?;
    let topic = lab.topic().await?;
    let (healthy, down) = (lab.endpoint(Behaviour::Ok), lab.endpoint(Behaviour::Gate));
    let retry = json!({ "delivery": { "retry": { "backoff": { "type": "Fixed", "delay": DELAY } } } });
    let subscriptions = vec![topic.subscription(KIND, &healthy, &json!({})), topic.subscription(KIND, &down, &retry)];
    lab.subscribe(&topic, subscriptions).await?;
    lab.sink.set_gate(false).await?;
    lab.forget().await?;
    let lasting = Duration::from_secs(scale.seconds);
    let waiting = lab.publish_steadily(&topic, RATE, lasting, |_| KIND.to_owned()).await?;
    report.progress("it comes back");
    let (parks, opened) = (lab.parks_of_full_lanes().await?, now());
    lab.sink.set_gate(true).await?;
    // The load goes on while the endpoint catches up.
    let later = lab.publish_steadily(&topic, RATE, lasting.div_f64(2.0), |_| KIND.to_owned()).await?;
    lab.all_accepted((waiting.len() + later.len()) * 2).await?;
    // A delivery that is sent twice has arrived by then, too.
    lab.settled().await?;
    lab.nothing_parked(&topic).await?;
    let parks = lab.parks_of_full_lanes().await? - parks;

    let mut left = lab.sink.take().await?;
    let mut compare = |endpoint: &Endpoint, numbers: &[u64]| {
        let wanted = pairs(std::slice::from_ref(endpoint), numbers);
        let (these, others) = part(std::mem::take(&mut left), &wanted);
        left = others;
        lab.compare(&wanted, &these)?.complete()
    };
    let (other_before, other_after) = (compare(&healthy, &waiting)?, compare(&healthy, &later)?);
    let (waited, recovered) = (compare(&down, &waiting)?, compare(&down, &later)?);
    let all = [&other_before, &other_after, &waited, &recovered];
    ensure!(left.is_empty(), "{} requests arrived that are none of these", left.len());
    let drained = Duration::from_nanos(waited.last().saturating_sub(opened));
    report.add([
        Figure::new("lost", all.iter().map(|tally| tally.lost).sum::<usize>() as f64, "").at_most(0.0),
        Figure::new("duplicates", all.iter().map(|tally| tally.duplicates).sum::<usize>() as f64, ""),
        Figure::new("deliveries that waited", waited.wanted as f64, ""),
        Figure::new("time to drain them", drained.as_secs_f64(), "s"),
        Figure::new("times that its lane was full", parks as f64, ""),
        Figure::new("attempts that failed", waited.refused as f64, ""),
    ]);
    report.add(other_before.latency.figures("the other endpoint before it came back: "));
    report.add(other_after.latency.figures("the other endpoint afterwards: "));
    lab.delete(topic).await
}
