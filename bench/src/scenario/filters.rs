//! Scenario N: very many Subscriptions of one type, which differ in an attribute that their filter wants.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::drain::{KIND, drain, pairs, ratio, topic};
use super::steady::RATE;
use crate::cpu::Recorder;
use crate::event::SIZE;
use crate::figure::Figure;
use crate::lab::{Endpoint, HOOKWRIGHT, Lab, Topic};
use crate::report::Report;
use crate::scale::Scale;
use crate::sink::Behaviour;
use crate::tally::median;
use crate::{bombs, filtering};

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
    lab.delete(many).await?;
    report.progress("a thousand of each dialect");
    report.add(filtering::figures(scale.seconds == Scale::SMOKE.seconds)?);
    beside_bombs(lab, scale, report).await
}

/// The type of the events that hostile filters look at.
const BOMBED: &str = "bombed";
/// How many of these events there are, and the bytes of the large ones.
const LARGE: u64 = 20;
const LARGE_SIZE: usize = 900_000;

/// How long the webhooks of others take while hostile filters look at every second event, and at large ones.
async fn beside_bombs(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    let (topic, endpoints) = topic(lab, &[Behaviour::Ok]).await?;
    let lasting = Duration::from_secs((scale.seconds / 2).max(2));
    let mut bombs = Vec::new();
    let mut latencies = Vec::new();
    for turn in ["no hostile filters", "hostile filters"] {
        report.progress(turn);
        lab.forget().await?;
        let recorder = Recorder::start(vec![]);
        let kind = |number: u64| if number.is_multiple_of(2) { KIND.to_owned() } else { BOMBED.to_owned() };
        let steady = lab.publish_steadily(&topic, RATE, lasting, kind);
        let large = lab.publish(&topic, LARGE, LARGE_SIZE, |_| BOMBED.to_owned());
        let (steady, large) = tokio::try_join!(steady, large)?;
        let (ours, theirs): (Vec<u64>, Vec<u64>) = steady.into_iter().partition(|number| number.is_multiple_of(2));
        // What the hostile filters accept arrives, too; what they are too expensive for doesn't.
        let maybe = [pairs(&bombs, &theirs), pairs(&bombs, &large)].concat();
        let run = lab.collect_beside(recorder, &pairs(&endpoints, &ours), &maybe).await?;
        latencies.push(run.tally.exact()?.latency);
        if bombs.is_empty() {
            let filters = bombs::accepted();
            bombs = filters.iter().map(|_| lab.endpoint(Behaviour::Ok)).collect();
            let filtered = |(endpoint, filter)| topic.subscription(BOMBED, endpoint, &json!({ "filters": [filter] }));
            lab.create(&topic, bombs.iter().zip(&filters).map(filtered).collect()).await?;
            lab.wait_subscribed(bombs.len() + endpoints.len()).await?;
        }
    }
    let [without, with] = &latencies[..] else { return Ok(()) };
    report.add([Figure::new("p99 beside hostile filters / none", with.p99_ms / without.p99_ms, "x").at_most(1.25)]);
    report.add(without.figures("no hostile filters: "));
    report.add(with.figures("hostile filters: "));
    lab.delete(topic).await
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
