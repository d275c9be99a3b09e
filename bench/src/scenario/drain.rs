//! One endpoint drains events that were published before.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::cpu::Recorder;
use crate::event::{SIZE, now};
use crate::figure::Figure;
use crate::lab::{ARRIVAL, Endpoint, HOOKWRIGHT, Lab, NATS, REFERENCE, Run, Topic};
use crate::report::Report;
use crate::scale::{IN_FLIGHT, Scale};
use crate::sink::{Behaviour, SINK};
use crate::tally::{Wanted, median};

/// The type of the events, unless a scenario has several types.
pub(super) const KIND: &str = "drain";

/// Publishes events while no dispatcher runs. Returns their numbers and the deliveries that are wanted.
pub(super) async fn fill(
    lab: &mut Lab,
    topic: &Topic,
    events: u64,
    size: usize,
    endpoints: &[Endpoint],
) -> Result<(Vec<u64>, Vec<Wanted>)> {
    lab.dispatch(0).await?;
    let published = lab.publish(topic, events, size, |_| KIND.to_owned()).await?;
    let wanted = pairs(endpoints, &published);
    Ok((published, wanted))
}

/// A delivery of each of these events to each of the endpoints.
pub(super) fn pairs(endpoints: &[Endpoint], published: &[u64]) -> Vec<Wanted> {
    endpoints.iter().flat_map(|endpoint| published.iter().map(|number| (endpoint.number, *number))).collect()
}

/// Starts measuring and lets exactly this many dispatchers run.
pub(super) async fn start(lab: &mut Lab, dispatchers: usize) -> Result<Recorder> {
    lab.forget().await?;
    lab.dispatch(dispatchers).await?;
    Ok(Recorder::start(lab.watched()?))
}

/// Lets dispatchers drain the wanted deliveries.
pub(super) async fn drain(lab: &mut Lab, dispatchers: usize, wanted: &[Wanted]) -> Result<Run> {
    let recorder = start(lab, dispatchers).await?;
    let run = lab.collect(recorder, wanted).await?;
    lab.check()?;
    Ok(run)
}

pub(super) fn ratio(ours: &[f64], other: &[f64]) -> Vec<f64> {
    ours.iter().zip(other).map(|(ours, other)| ours / other).collect()
}

/// The measurements of several runs of the same work.
#[derive(Default)]
pub(super) struct Rounds {
    rates: Vec<f64>,
    floor_rates: Vec<f64>,
    cpu: Vec<f64>,
    bare_cpu: Vec<f64>,
    floor_cpu: Vec<f64>,
    nats_cpu: Vec<f64>,
    floor_nats_cpu: Vec<f64>,
    sink_cpu: Vec<f64>,
    floor_sink_cpu: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, ours: &Run, bare: &Run, floor: &Run) {
        self.rates.push(ours.tally.rate());
        self.floor_rates.push(floor.tally.rate());
        self.cpu.push(ours.cpu_per_delivery(HOOKWRIGHT));
        self.nats_cpu.push(ours.cpu_per_delivery(NATS));
        self.floor_nats_cpu.push(floor.cpu_per_delivery(NATS));
        self.sink_cpu.push(ours.cpu_per_delivery(SINK));
        self.floor_sink_cpu.push(floor.cpu_per_delivery(SINK));
        self.bare_cpu.push(bare.cpu_per_delivery(REFERENCE));
        self.floor_cpu.push(floor.cpu_per_delivery(REFERENCE));
    }

    pub(super) fn figures(&self, at_most: f64, at_least: f64) -> Vec<Figure> {
        let middle = |values: &[f64]| median(values.to_vec());
        let cpu = ratio(&self.cpu, &self.bare_cpu);
        let rate = ratio(&self.rates, &self.floor_rates);
        vec![
            Figure::new("CPU per delivery / R1", median(cpu.clone()), "x").spread(&cpu).at_most(at_most),
            Figure::new("throughput / R2", median(rate.clone()), "x").spread(&rate).at_least(at_least),
            Figure::new("CPU per delivery", middle(&self.cpu), "us").spread(&self.cpu),
            Figure::new("R1's CPU per delivery", middle(&self.bare_cpu), "us").spread(&self.bare_cpu),
            Figure::new("R2's CPU per delivery", middle(&self.floor_cpu), "us").spread(&self.floor_cpu),
            Figure::new("nats-server's CPU per delivery", middle(&self.nats_cpu), "us").spread(&self.nats_cpu),
            Figure::new("nats-server's under R2", middle(&self.floor_nats_cpu), "us").spread(&self.floor_nats_cpu),
            Figure::new("the sink's CPU per delivery", middle(&self.sink_cpu), "us").spread(&self.sink_cpu),
            Figure::new("the sink's under R2", middle(&self.floor_sink_cpu), "us").spread(&self.floor_sink_cpu),
            Figure::new("throughput", middle(&self.rates), "/s").spread(&self.rates),
            Figure::new("R2's throughput", middle(&self.floor_rates), "/s").spread(&self.floor_rates),
        ]
    }
}

/// Runs R1, R2 and a dispatcher in turn, once in each round.
pub(super) async fn interleaved(
    lab: &mut Lab,
    topic: &Topic,
    endpoints: &[Endpoint],
    events: u64,
    scale: Scale,
    report: &Report,
) -> Result<Rounds> {
    let mut rounds = Rounds::default();
    // R2's consumers share as many requests under way as one endpoint may have. With 512 in all, as a dispatcher may
    // have, R2's throughput is half.
    let in_flight = (IN_FLIGHT / endpoints.len()).max(1);
    for round in 1..=scale.rounds {
        let bare = lab.bare(events * endpoints.len() as u64, SIZE, IN_FLIGHT).await?;
        bare.tally.clone().exact()?;
        let routes = lab.floor_routes(topic, endpoints).await?;
        let (_, wanted) = fill(lab, topic, events, SIZE, endpoints).await?;
        let floor = lab.floor_drain(topic, routes, &wanted, in_flight).await?;
        floor.tally.clone().exact()?;
        let ours = drain(lab, 1, &wanted).await?;
        ours.tally.clone().exact()?;
        rounds.add(&ours, &bare, &floor);
        report.progress(&format!(
            "round {round}: {:.0}/s at {:.1} us; R2 {:.0}/s at {:.1} us; R1 {:.0}/s at {:.1} us, the sink {:.1} us",
            ours.tally.rate(),
            ours.cpu_per_delivery(HOOKWRIGHT),
            floor.tally.rate(),
            floor.cpu_per_delivery(REFERENCE),
            bare.tally.rate(),
            bare.cpu_per_delivery(REFERENCE),
            bare.cpu_per_delivery(SINK),
        ));
    }
    Ok(rounds)
}

/// Creates a topic and endpoints that want all of its events.
pub(super) async fn topic(lab: &mut Lab, behaviours: &[Behaviour]) -> Result<(Topic, Vec<Endpoint>)> {
    lab.dispatch_ready(1).await?;
    let topic = lab.topic().await?;
    let endpoints: Vec<Endpoint> = behaviours.iter().map(|behaviour| lab.endpoint(*behaviour)).collect();
    let subscriptions = endpoints.iter().map(|endpoint| topic.subscription(KIND, endpoint, &json!({}))).collect();
    lab.subscribe(&topic, subscriptions).await?;
    Ok((topic, endpoints))
}

/// Scenario A: one endpoint.
pub(super) async fn one_endpoint(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (topic, endpoints) = topic(lab, &[Behaviour::Ok]).await?;
    let rounds = interleaved(lab, &topic, &endpoints, scale.deliveries, scale, report).await?;
    report.add(rounds.figures(1.6, 0.85));
    let bare = lab.bare(scale.deliveries, SIZE, IN_FLIGHT).await?;
    bare.tally.clone().exact()?;
    let capacity = 1e6 / bare.cpu_per_delivery(SINK);
    report.add([
        Figure::new("what the sink could take, for each core", capacity, "/s"),
        Figure::new("the most that was asked of it (R1)", bare.tally.rate(), "/s"),
    ]);
    lab.dispatch_ready(1).await?;
    lab.delete(topic).await
}

/// The fewest deliveries of a drain. With fewer, all may be done before the last dispatcher has started, or before one
/// is killed.
const LEAST: u64 = 10_000;

/// Scenario I: 1, 2 and 4 dispatchers.
pub(super) async fn more_dispatchers(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (topic, endpoints) = topic(lab, &[Behaviour::Ok]).await?;
    const COUNTS: [usize; 3] = [1, 2, 4];
    let mut cpu: [Vec<f64>; 3] = Default::default();
    for round in 1..=scale.rounds {
        let mut each = Vec::new();
        for dispatchers in COUNTS {
            // The first dispatchers drain while the others start, so the measurement begins when all have started.
            let events = (5 * scale.deliveries).max(LEAST);
            let (_, wanted) = fill(lab, &topic, events, SIZE, &endpoints).await?;
            let recorder = start(lab, dispatchers).await?;
            lab.dispatch_ready(dispatchers).await?;
            let ready = now();
            let run = lab.collect(recorder, &wanted).await?;
            lab.check()?;
            run.tally.clone().exact()?;
            each.extend(run.cpu_per_delivery_since(HOOKWRIGHT, ready.max(run.tally.first())));
        }
        report.progress(&format!("round {round} of {}: {each:.1?} us", scale.rounds));
        if each.len() == COUNTS.len() {
            cpu.iter_mut().zip(each).for_each(|(cpu, each)| cpu.push(each));
        }
    }
    ensure!(!cpu[0].is_empty(), "all was drained before the dispatchers had started");
    for (runs, dispatchers) in cpu.iter().zip(COUNTS) {
        let name = format!("CPU per delivery, {dispatchers} dispatchers");
        report.add([Figure::new(name, median(runs.clone()), "us").spread(runs)]);
    }
    for (runs, dispatchers) in cpu.iter().zip(COUNTS).skip(1) {
        let ratios = ratio(runs, &cpu[0]);
        let name = format!("CPU per delivery, {dispatchers} dispatchers / 1");
        report.add([Figure::new(name, median(ratios.clone()), "x").spread(&ratios).at_most(1.1)]);
    }
    lab.dispatch_ready(1).await?;
    lab.delete(topic).await
}

/// Scenario J: two dispatchers, one of which is killed when a third of the deliveries is done.
pub(super) async fn kill(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (topic, endpoints) = topic(lab, &[Behaviour::Ok]).await?;
    let (mut lost, mut duplicates, mut silence, mut attempts) = (0, 0, Duration::ZERO, u64::MAX);
    for round in 1..=scale.rounds.min(3) {
        let (_, wanted) = fill(lab, &topic, scale.deliveries.max(LEAST), SIZE, &endpoints).await?;
        let recorder = start(lab, 2).await?;
        let third = async {
            while lab.sink.accepted().await? < wanted.len() / 3 {
                sleep(Duration::from_millis(1)).await;
            }
            anyhow::Ok(())
        };
        timeout(ARRIVAL, third).await.context("a third of all webhooks did not arrive")??;
        attempts = attempts.min(lab.attempts(0).await?);
        lab.kill(0)?;
        ensure!(lab.sink.accepted().await? < wanted.len(), "all was done before it was killed");
        let tally = lab.collect(recorder, &wanted).await.context("after a kill")?.tally.complete()?;
        report.progress(&format!("kill {round}: {} duplicates, silence {:.1?}", tally.duplicates, tally.silence));
        lost += tally.lost;
        duplicates = duplicates.max(tally.duplicates);
        silence = silence.max(tally.silence);
    }
    report.add([
        Figure::new("lost", lost as f64, "").at_most(0.0),
        Figure::new("duplicates, the most of a run", duplicates as f64, "").at_most(IN_FLIGHT as f64),
        Figure::new("longest silence", silence.as_secs_f64(), "s").at_most(8.0),
        Figure::new("attempts of the killed one, the fewest of a run", attempts as f64, "").at_least(1.0),
    ]);
    lab.dispatch_ready(1).await?;
    lab.delete(topic).await
}
