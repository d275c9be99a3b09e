//! Each event goes to many endpoints.

use anyhow::Result;

use super::drain::{drain, fill, interleaved, topic};
use crate::event::SIZE;
use crate::figure::Figure;
use crate::lab::{HOOKWRIGHT, Lab, NATS, REFERENCE};
use crate::report::Report;
use crate::scale::{IN_FLIGHT, Scale};
use crate::sink::Behaviour;
use crate::tally::median;

/// Scenario B: ten endpoints.
pub(super) async fn ten(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (topic, endpoints) = topic(lab, &[Behaviour::Ok; 10]).await?;
    let rounds = interleaved(lab, &topic, &endpoints, scale.deliveries / 4, scale, report).await?;
    report.add(rounds.figures(1.25, 0.90));
    lab.dispatch_ready(1).await?;
    lab.delete(topic).await
}

/// Scenario C: many endpoints, compared with R1 alone, because a consumer for each of so many endpoints is no design
/// for JetStream.
pub(super) async fn many(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (topic, endpoints) = topic(lab, &vec![Behaviour::Ok; scale.fan_out as usize]).await?;
    let events = (scale.deliveries * 4 / u64::from(scale.fan_out)).max(1);
    let (mut ratios, mut cpu, mut nats, mut rates) = (vec![], vec![], vec![], vec![]);
    for round in 1..=scale.rounds {
        let bare = lab.bare(events * u64::from(scale.fan_out), SIZE, IN_FLIGHT).await?;
        bare.tally.clone().exact()?;
        let (_, wanted) = fill(lab, &topic, events, SIZE, &endpoints).await?;
        let run = drain(lab, 1, &wanted).await?;
        run.tally.clone().exact()?;
        ratios.push(run.cpu_per_delivery(HOOKWRIGHT) / bare.cpu_per_delivery(REFERENCE));
        cpu.push(run.cpu_per_delivery(HOOKWRIGHT));
        nats.push(run.cpu_per_delivery(NATS));
        rates.push(run.tally.rate());
        report.progress(&format!("round {round} of {}", scale.rounds));
    }
    report.add([
        Figure::new("CPU per delivery / R1", median(ratios.clone()), "x").spread(&ratios).at_most(1.25),
        Figure::new("CPU per delivery", median(cpu.clone()), "us").spread(&cpu),
        Figure::new("nats-server's CPU per delivery", median(nats.clone()), "us").spread(&nats),
        Figure::new("throughput", median(rates.clone()), "/s").spread(&rates),
    ]);
    lab.dispatch_ready(1).await?;
    lab.delete(topic).await
}
