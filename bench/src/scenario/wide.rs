//! Scenarios G and K: very many Subscriptions, most of which want few events.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::drain::{KIND, drain, ratio, topic};
use crate::cpu::Recorder;
use crate::event::SIZE;
use crate::figure::Figure;
use crate::lab::{Endpoint, HOOKWRIGHT, Lab, REFERENCE, Topic, resident_memory};
use crate::report::Report;
use crate::scale::{IN_FLIGHT, Scale};
use crate::sink::Behaviour;
use crate::tally::{Wanted, median};

/// How many Subscriptions want the same type.
const SHARE: u32 = 10;
/// How long API writes are counted, once while nothing is published and once under load.
const COUNTED: Duration = Duration::from_secs(60);
/// The events a second of that load.
const RATE: u32 = 100;

pub(super) async fn run(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (few, few_endpoints) = topic(lab, &[Behaviour::Ok; SHARE as usize]).await?;
    let memory_of_few = idle_memory(lab).await?;
    let narrow = Rounds::run(lab, &few, &few_endpoints, scale, report).await?;
    lab.dispatch_ready(1).await?;
    lab.delete(few).await?;

    let (topic, endpoints) = operator_start(lab, scale, report).await?;
    let memory_of_many = idle_memory(lab).await?;
    let wide = Rounds::run(lab, &topic, &endpoints, scale, report).await?;
    let dearer = ratio(&wide.ratios, &narrow.ratios);
    report.add([
        // Minutes lie between the two measurements, so each is compared with R1, which runs in turn with it.
        Figure::new("CPU per delivery / that of ten Subscriptions", median(dearer.clone()), "x")
            .spread(&dearer)
            .at_most(1.2),
        Figure::new("CPU per delivery / R1", median(wide.ratios.clone()), "x").spread(&wide.ratios),
        Figure::new("CPU per delivery / R1, ten Subscriptions", median(narrow.ratios.clone()), "x")
            .spread(&narrow.ratios),
        Figure::new("CPU per delivery", median(wide.cpu.clone()), "us").spread(&wide.cpu),
        Figure::new("CPU per delivery, ten Subscriptions", median(narrow.cpu.clone()), "us").spread(&narrow.cpu),
        Figure::new("dispatcher's memory, idle, over that with ten", memory_of_many - memory_of_few, "MiB")
            .at_most(60.0),
        Figure::new("dispatcher's memory, idle", memory_of_many, "MiB"),
    ]);
    lab.dispatch_ready(1).await?;
    lab.delete(topic).await
}

/// The memory of a dispatcher that has just started and loaded everything.
pub(super) async fn idle_memory(lab: &mut Lab) -> Result<f64> {
    lab.dispatch(0).await?;
    lab.dispatch_ready(1).await?;
    resident_memory(lab.first_dispatcher()?)
}

/// The CPU time for each delivery in several drains in which each event goes to [`SHARE`] endpoints.
#[derive(Default)]
struct Rounds {
    cpu: Vec<f64>,
    /// The CPU time divided by R1's, which runs in turn with it.
    ratios: Vec<f64>,
}

impl Rounds {
    async fn run(lab: &mut Lab, topic: &Topic, endpoints: &[Endpoint], scale: Scale, report: &Report) -> Result<Self> {
        let mut rounds = Self::default();
        for round in 1..=scale.rounds {
            rounds.add(lab, topic, endpoints, scale).await?;
            report.progress(&format!("round {round} of {}, {} Subscriptions", scale.rounds, endpoints.len()));
        }
        Ok(rounds)
    }

    async fn add(&mut self, lab: &mut Lab, topic: &Topic, endpoints: &[Endpoint], scale: Scale) -> Result<()> {
        lab.dispatch(0).await?;
        let events = scale.deliveries / 4;
        let bare = lab.bare(events * u64::from(SHARE), SIZE, IN_FLIGHT).await?;
        bare.tally.clone().exact()?;
        let published = lab.publish(topic, events, SIZE, |number| kind(endpoints, number)).await?;
        let wanted = wanted(endpoints, &published);
        let run = drain(lab, 1, &wanted).await?;
        run.tally.clone().exact()?;
        self.cpu.push(run.cpu_per_delivery(HOOKWRIGHT));
        self.ratios.push(run.cpu_per_delivery(HOOKWRIGHT) / bare.cpu_per_delivery(REFERENCE));
        Ok(())
    }
}

/// The number of an event's type. Each type has [`SHARE`] endpoints of its own.
fn of_type(endpoints: &[Endpoint], number: u64) -> usize {
    (number % (endpoints.len() as u64 / u64::from(SHARE))) as usize
}

fn kind(endpoints: &[Endpoint], number: u64) -> String {
    if endpoints.len() == SHARE as usize { KIND.to_owned() } else { format!("t.{}", of_type(endpoints, number)) }
}

fn wanted(endpoints: &[Endpoint], published: &[u64]) -> Vec<Wanted> {
    let share = SHARE as usize;
    let to =
        |number: u64| endpoints[of_type(endpoints, number) * share..][..share].iter().map(move |e| (e.number, number));
    published.iter().flat_map(|number| to(*number)).collect()
}

/// Scenario K: all Subscriptions exist before the operator starts, and their keys have to be generated.
async fn operator_start(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<(Topic, Vec<Endpoint>)> {
    lab.dispatch_ready(1).await?;
    let topic = lab.topic().await?;
    lab.world.operator.terminate().await?;
    let count = scale.subscriptions;
    let endpoints: Vec<Endpoint> = (0..count).map(|_| lab.endpoint(Behaviour::Ok)).collect();
    let own_keys = json!({ "signing": null });
    let subscriptions = endpoints.iter().enumerate().map(|(n, endpoint)| -> Value {
        topic.subscription(&format!("t.{}", n / SHARE as usize), endpoint, &own_keys)
    });
    lab.create(&topic, subscriptions.collect()).await?;
    let before = lab.api_writes().await?;
    let start = Instant::now();
    lab.world.operator.restart()?;
    lab.wait_subscribed(count as usize).await?;
    let took = start.elapsed();
    // This does not wait for a condition: late writes count, and afterwards the idleness is measured.
    let counted = COUNTED.min(Duration::from_secs(scale.seconds));
    tokio::time::sleep(counted).await;
    let settled = lab.api_writes().await?;
    let writes = settled.clone().since(&before);
    report.progress(&format!("API writes: {}", writes.list()));
    tokio::time::sleep(counted).await;
    let (rested, load) = (lab.api_writes().await?, Instant::now());
    let idle = rested.clone().since(&settled);
    report.progress(&format!("API writes in an idle minute: {}", idle.list()));
    lab.forget().await?;
    let published = lab.publish_steadily(&topic, RATE, counted, |number| kind(&endpoints, number)).await?;
    lab.collect(Recorder::start(vec![]), &wanted(&endpoints, &published)).await?.tally.exact()?;
    let loaded = lab.api_writes().await?.since(&rested);
    let load = load.elapsed();
    report.progress(&format!("API writes in {load:.0?} under load: {}", loaded.list()));
    let each = writes.without("producers").total() as f64 / f64::from(count);
    report.add([
        Figure::new("operator: from its start until all are Ready", took.as_secs_f64(), "s").at_most(120.0),
        Figure::new("API writes for each Subscription", each, "").at_most(3.0),
        Figure::new("API writes in an idle minute", idle.total() as f64, "").at_most(0.0),
        Figure::new("API writes a second under load", loaded.total() as f64 / load.as_secs_f64(), "/s").at_most(20.0),
        Figure::new("operator's memory", resident_memory(lab.world.operator.id()?)?, "MiB"),
    ]);
    Ok((topic, endpoints))
}
