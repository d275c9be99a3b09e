//! Large events beside an endpoint that hangs: what a dispatcher's memory grows to.

use anyhow::{Context, Result};

use super::Scale;
use super::drain::topic;
use crate::cpu::Recorder;
use crate::lab::{Lab, peak_memory, resident_memory};
use crate::report::{Figure, Report};
use crate::sink::Behaviour;
use crate::tally::Wanted;

/// Bytes; the server lets 1 MiB through, headers included.
const SIZE: usize = 1_000_000;
/// The default of `maxHeldBytes`.
const BUDGET_MIB: f64 = 256.0;
/// What may come on top.
const ALLOWED_MIB: f64 = 64.0;

/// M.
pub(super) async fn memory(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (topic, endpoints) = topic(lab, &[Behaviour::Ok, Behaviour::Hang]).await?;
    lab.dispatch(0).await?;
    let published = lab.publish(&topic, scale.deliveries / 20, SIZE, |_| "drain".to_owned()).await?;
    let wanted: Vec<Wanted> = published.iter().map(|number| (endpoints[0].number, *number)).collect();
    lab.forget().await?;
    lab.dispatch_ready(1).await?;
    let pid = lab.world.dispatchers.first().context("a dispatcher")?.id()?;
    let idle = resident_memory(pid)?;
    lab.collect_of(Recorder::start(vec![]), &wanted, &endpoints[..1]).await?.tally.exact()?;
    let peak = peak_memory(pid)?;
    report.add([
        Figure::new("most memory ever, beyond the budget", peak - BUDGET_MIB, "MiB").at_most(ALLOWED_MIB),
        Figure::new("most memory ever", peak, "MiB"),
        Figure::new("memory at the start", idle, "MiB"),
    ]);
    lab.delete(topic).await
}
