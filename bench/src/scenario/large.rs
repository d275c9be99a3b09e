//! Large events beside an endpoint that hangs: what a dispatcher's memory grows to.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::Scale;
use super::drain::{fill, pairs, topic};
use super::wide::idle_memory;
use crate::cpu::Recorder;
use crate::lab::{Lab, peak_memory};
use crate::report::{Figure, Report};
use crate::sink::Behaviour;

/// Bytes; the server lets 1 MiB through, headers included.
const SIZE: usize = 1_000_000;
/// The default of `limits.heldBytes`.
const BUDGET_MIB: f64 = 256.0;
/// What may come on top.
const ALLOWED_MIB: f64 = 64.0;
/// An attempt at what hangs ends after 15 s; it comes again after 5 s more.
const AFTERWARDS: Duration = Duration::from_secs(40);

/// M.
pub(super) async fn memory(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (topic, endpoints) = topic(lab, &[Behaviour::Ok, Behaviour::Hang]).await?;
    let idle = idle_memory(lab).await?;
    let (published, wanted) = fill(lab, &topic, scale.deliveries / 20, SIZE, &endpoints[..1]).await?;
    lab.forget().await?;
    lab.dispatch_ready(1).await?;
    let hanging = pairs(&endpoints[1..], &published);
    lab.collect_of(Recorder::start(vec![]), &wanted, &hanging).await?.tally.exact()?;
    report.progress("all is delivered to the one that answers");
    // Not a wait for something: the most in this time is what is measured.
    sleep(AFTERWARDS.min(Duration::from_secs(scale.seconds))).await;
    let peak = peak_memory(lab.first_dispatcher()?)?;
    report.add([
        Figure::new("most memory ever, beyond the budget", peak - BUDGET_MIB, "MiB").at_most(ALLOWED_MIB),
        Figure::new("most memory ever", peak, "MiB"),
        Figure::new("memory, idle", idle, "MiB"),
    ]);
    lab.delete(topic).await
}
