//! Large events beside an endpoint that hangs: how large a dispatcher's memory grows.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::drain::{fill, pairs, topic};
use super::wide::idle_memory;
use crate::cpu::Recorder;
use crate::figure::Figure;
use crate::lab::{Lab, peak_memory};
use crate::report::Report;
use crate::scale::Scale;
use crate::sink::Behaviour;

/// The bytes of an event. The server lets 1 MiB through, headers included.
const SIZE: usize = 1_000_000;
/// The default of `limits.heldBytes`.
const BUDGET_MIB: f64 = 256.0;
/// How much memory may be used beyond the budget.
const ALLOWED_MIB: f64 = 64.0;
/// How long memory is watched after the deliveries. An attempt at the endpoint that hangs ends after 15 s, and the next
/// one starts 5 s later.
const AFTERWARDS: Duration = Duration::from_secs(40);

/// Scenario M.
pub(super) async fn memory(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (topic, endpoints) = topic(lab, &[Behaviour::Ok, Behaviour::Hang]).await?;
    let idle = idle_memory(lab).await?;
    let (published, wanted) = fill(lab, &topic, scale.deliveries / 20, SIZE, &endpoints[..1]).await?;
    lab.forget().await?;
    lab.dispatch_ready(1).await?;
    let hanging = pairs(&endpoints[1..], &published);
    lab.collect_of(Recorder::start(vec![]), &wanted, &hanging).await?.tally.exact()?;
    report.progress("all is delivered to the one that answers");
    // This does not wait for a condition: the most memory within this time is what is measured.
    sleep(AFTERWARDS.min(Duration::from_secs(scale.seconds))).await;
    let peak = peak_memory(lab.first_dispatcher()?)?;
    report.add([
        Figure::new("most memory ever, beyond the budget", peak - BUDGET_MIB, "MiB").at_most(ALLOWED_MIB),
        Figure::new("most memory ever", peak, "MiB"),
        Figure::new("memory, idle", idle, "MiB"),
    ]);
    lab.delete(topic).await
}
