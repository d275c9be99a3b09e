//! Scenario N: very many Subscriptions of one type, which differ in an attribute that their filter wants.

use anyhow::Result;
use serde_json::json;

use super::drain::{KIND, drain, pairs, ratio, topic};
use crate::event::SIZE;
use crate::figure::Figure;
use crate::lab::{Endpoint, HOOKWRIGHT, Lab, Topic};
use crate::report::Report;
use crate::scale::Scale;
use crate::sink::Behaviour;
use crate::tally::median;

/// The attribute by which tenants are told apart, and its value in all events.
const TENANT: (&str, &str) = ("ce-tenantid", "t-0");

pub(super) async fn tenants(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (mut one, endpoints) = topic(lab, &[Behaviour::Ok]).await?;
    one.headers.insert(TENANT.0, TENANT.1);
    let alone = rounds(lab, &one, &endpoints, scale, report).await?;
    lab.dispatch_ready(1).await?;
    lab.delete(one).await?;

    let mut many = lab.topic().await?;
    many.headers.insert(TENANT.0, TENANT.1);
    let endpoints: Vec<Endpoint> = (0..scale.subscriptions).map(|_| lab.endpoint(Behaviour::Ok)).collect();
    let subscriptions = endpoints.iter().enumerate().map(|(n, endpoint)| {
        let filters = json!({ "filters": [{ "exact": { "tenantid": format!("t-{n}") } }] });
        many.subscription(KIND, endpoint, &filters)
    });
    lab.subscribe(&many, subscriptions.collect()).await?;
    let filtered = rounds(lab, &many, &endpoints[..1], scale, report).await?;
    let dearer = ratio(&filtered, &alone);
    report.add([
        Figure::new("CPU per event / that of one Subscription", median(dearer.clone()), "x")
            .spread(&dearer)
            .at_most(1.1),
        Figure::new("CPU per event", median(filtered.clone()), "us").spread(&filtered),
        Figure::new("CPU per event, one Subscription", median(alone.clone()), "us").spread(&alone),
    ]);
    lab.dispatch_ready(1).await?;
    lab.delete(many).await
}

/// The dispatcher's CPU time for each event, which goes to these endpoints, in several drains.
async fn rounds(
    lab: &mut Lab,
    topic: &Topic,
    endpoints: &[Endpoint],
    scale: Scale,
    report: &Report,
) -> Result<Vec<f64>> {
    let mut cpu = Vec::new();
    for round in 1..=scale.rounds {
        lab.dispatch(0).await?;
        let published = lab.publish(topic, scale.deliveries, SIZE, |_| KIND.to_owned()).await?;
        let run = drain(lab, 1, &pairs(endpoints, &published)).await?;
        run.tally.clone().exact()?;
        cpu.push(run.cpu_per_delivery(HOOKWRIGHT));
        report.progress(&format!("round {round} of {}", scale.rounds));
    }
    Ok(cpu)
}
