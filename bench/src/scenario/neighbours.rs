//! Scenario Q: what the endpoints of other namespaces cost ten healthy ones, and one that has to be tried again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use hookwright_e2e::wait_for;
use serde_json::{Value, json};

use crate::event::SIZE;
use crate::figure::Figure;
use crate::lab::{Endpoint, Lab, Topic};
use crate::report::Report;
use crate::scale::Scale;
use crate::sink::{Behaviour, Receipt};
use crate::tally::{Latency, Wanted, median};

const DISPATCHERS: usize = 2;
const HEALTHY: u32 = 10;
/// The events a second for the healthy ones.
const RATE: u32 = 100;
/// One in this many events is for the endpoint that has to be tried again.
const RETRIED: u64 = 11;
/// How long the healthy ones may take after the last event was published.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the neighbours have.
#[derive(Debug, Clone, Copy)]
struct Neighbours {
    name: &'static str,
    namespaces: u32,
    /// The endpoints of all namespaces together, each of which has a type of its own.
    endpoints: u32,
    /// How many of a hundred of them behave in this way. The others answer at once.
    percent: u32,
    behaviour: Badly,
    load: Load,
}

#[derive(Debug, Clone, Copy)]
enum Badly {
    Slow,
    Hang,
    Refuse,
}

#[derive(Debug, Clone, Copy)]
enum Load {
    /// This many events a second, over all endpoints.
    Steady(u32),
    /// Half as many events as a drain has, for all endpoints each, which wait in the stream.
    Backlog,
}

static ALL: [Neighbours; 6] = [
    Neighbours {
        name: "64 slow, 1 event each per 3.5 s",
        namespaces: 1,
        endpoints: 64,
        percent: 100,
        behaviour: Badly::Slow,
        load: Load::Steady(18),
    },
    Neighbours {
        name: "64 slow, 2/s each",
        namespaces: 1,
        endpoints: 64,
        percent: 100,
        behaviour: Badly::Slow,
        load: Load::Steady(128),
    },
    Neighbours {
        name: "300 slow, 1/s each",
        namespaces: 1,
        endpoints: 300,
        percent: 100,
        behaviour: Badly::Slow,
        load: Load::Steady(300),
    },
    Neighbours {
        name: "300 of 1,000 hang, one namespace",
        namespaces: 1,
        endpoints: 1_000,
        percent: 30,
        behaviour: Badly::Hang,
        load: Load::Steady(300),
    },
    Neighbours {
        name: "300 of 1,000 hang, thirty namespaces",
        namespaces: 30,
        endpoints: 1_000,
        percent: 30,
        behaviour: Badly::Hang,
        load: Load::Steady(300),
    },
    Neighbours {
        name: "a dozen answer 503 after 10 s, behind a backlog",
        namespaces: 1,
        endpoints: 12,
        percent: 100,
        behaviour: Badly::Refuse,
        load: Load::Backlog,
    },
];

/// The namespace that is measured.
struct Measured {
    topic: Topic,
    endpoints: Vec<Endpoint>,
    retried: Endpoint,
}

/// What was measured beside some neighbours.
struct Beside {
    latency: Latency,
    arrived: f64,
    /// The waits from a failed attempt to the next one, in milliseconds.
    retries: Vec<f64>,
}

pub(super) async fn run(lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
    lab.dispatch_ready(DISPATCHERS).await?;
    let measured = Measured::new(lab).await?;
    let lasting = Duration::from_secs(scale.seconds);
    report.progress("alone");
    let alone = measured.run(lab, lasting).await?;
    let most = (alone.latency.p99_ms * 1.5).max(alone.latency.p99_ms + 5.0);
    alone.report(report, "alone", None);
    // A little of it shows what it is to show: many namespaces, and a backlog.
    let neighbours = if scale.rounds == 1 { &ALL[4..] } else { &ALL[..] };
    for neighbours in neighbours {
        report.progress(neighbours.name);
        let topics = neighbours.create(lab, scale).await?;
        let load =
            try_join_all(topics.iter().map(|(topic, endpoints)| neighbours.publish(lab, topic, endpoints, scale)));
        let beside = async {
            // This does not wait for a condition: the neighbours' attempts gather meanwhile.
            tokio::time::sleep(lasting / 2).await;
            measured.run(lab, lasting).await
        };
        let (beside, _) = tokio::try_join!(beside, load)?;
        beside.report(report, neighbours.name, Some(most));
        for (topic, _) in topics {
            lab.delete(topic).await?;
        }
        lab.check()?;
        // Attempts that still wait for their answer end with the dispatchers.
        lab.dispatch(0).await?;
        lab.dispatch_ready(DISPATCHERS).await?;
    }
    lab.dispatch_ready(1).await?;
    lab.delete(measured.topic).await
}

impl Measured {
    async fn new(lab: &Lab) -> Result<Self> {
        let topic = lab.topic().await?;
        let endpoints: Vec<Endpoint> = (0..HEALTHY).map(|_| lab.endpoint(Behaviour::Ok)).collect();
        let retried = lab.endpoint(Behaviour::Failing(20));
        let exactly = json!({ "type": "Fixed", "delay": "1s" });
        let retry = json!({ "delivery": { "retry": { "backoff": exactly, "jitterPercent": 0 } } });
        let mut subscriptions: Vec<Value> =
            endpoints.iter().map(|endpoint| topic.subscription(&kind(endpoint), endpoint, &json!({}))).collect();
        subscriptions.push(topic.subscription(&kind(&retried), &retried, &retry));
        lab.subscribe(&topic, subscriptions).await?;
        Ok(Self { topic, endpoints, retried })
    }

    fn endpoint(&self, number: u64) -> &Endpoint {
        let to = (number % RETRIED) as usize;
        self.endpoints.get(to).unwrap_or(&self.retried)
    }

    async fn run(&self, lab: &Lab, lasting: Duration) -> Result<Beside> {
        let published = lab.publish_steadily(&self.topic, RATE, lasting, |number| kind(self.endpoint(number))).await?;
        let wanted: Vec<Wanted> = published.iter().map(|number| (self.endpoint(*number).number, *number)).collect();
        let receipts = self.receipts(lab, &wanted).await?;
        let retries = waits(receipts.iter().filter(|receipt| receipt.endpoint == self.retried.number));
        let (first, again): (Vec<Wanted>, Vec<Wanted>) =
            wanted.into_iter().partition(|(endpoint, _)| *endpoint != self.retried.number);
        let (others, ours) = crate::lab::part(receipts, &first);
        let tally = lab.compare(&first, &others)?;
        lab.compare(&again, &ours)?;
        let arrived = 100.0 * (tally.wanted - tally.lost) as f64 / tally.wanted as f64;
        Ok(Beside { latency: tally.latency, arrived, retries })
    }

    /// The receipts of the measured endpoints, once all wanted deliveries were accepted or the time is over.
    async fn receipts(&self, lab: &Lab, wanted: &[Wanted]) -> Result<Vec<Receipt>> {
        let (mut receipts, start) = (Vec::new(), Instant::now());
        let own: Vec<u32> = self.endpoints.iter().chain([&self.retried]).map(|endpoint| endpoint.number).collect();
        let mut missing: std::collections::HashSet<Wanted> = wanted.iter().copied().collect();
        wait_for("the healthy endpoints to have all", PATIENCE * 2, async || {
            for receipt in lab.sink.take().await? {
                if receipt.accepted {
                    missing.remove(&(receipt.endpoint, receipt.number));
                }
                if own.contains(&receipt.endpoint) {
                    receipts.push(receipt);
                }
            }
            anyhow::ensure!(missing.is_empty() || start.elapsed() > PATIENCE, "{} are missing", missing.len());
            Ok(())
        })
        .await?;
        Ok(receipts)
    }
}

/// The times between the attempts at each event, in milliseconds.
fn waits<'a>(receipts: impl Iterator<Item = &'a Receipt>) -> Vec<f64> {
    let mut attempts: HashMap<u64, Vec<u64>> = HashMap::new();
    receipts.for_each(|receipt| attempts.entry(receipt.number).or_default().push(receipt.at));
    let mut waits = Vec::new();
    for mut times in attempts.into_values() {
        times.sort_unstable();
        waits.extend(times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6));
    }
    waits.sort_unstable_by(f64::total_cmp);
    waits
}

impl Beside {
    fn report(&self, report: &mut Report, of: &str, most: Option<f64>) {
        let p99 = Figure::new(format!("{of}: p99"), self.latency.p99_ms, "ms");
        let longest = self.retries.last().copied().unwrap_or_default();
        report.add([
            Figure::new(format!("{of}: p50"), self.latency.p50_ms, "ms"),
            match most {
                Some(most) => p99.at_most(most),
                None => p99,
            },
            Figure::new(format!("{of}: arrived within two minutes"), self.arrived, "%").at_least(100.0),
            Figure::new(
                format!("{of}: a retry comes after, 1 s wanted, median"),
                median(self.retries.clone()).max(0.0),
                "ms",
            ),
            Figure::new(format!("{of}: a retry comes after, 1 s wanted, at most"), longest, "ms"),
        ]);
    }
}

impl Neighbours {
    /// Creates the namespaces with their Subscriptions.
    async fn create(&self, lab: &Lab, scale: Scale) -> Result<Vec<(Topic, Vec<Endpoint>)>> {
        let (all, wide) = (self.endpoints * scale.fan_out / 1_000, scale.fan_out == 1_000);
        let namespaces = if wide { self.namespaces } else { self.namespaces.min(3) };
        let each = all.div_ceil(namespaces).max(2);
        let before = HEALTHY + 1;
        let mut topics = Vec::new();
        for _ in 0..namespaces {
            let topic = lab.topic().await?;
            let bad = (each * self.percent).div_ceil(100);
            let endpoints: Vec<Endpoint> = (0..each)
                .map(|n| lab.endpoint(if n < bad { self.behaviour.of(scale) } else { Behaviour::Ok }))
                .collect();
            let delivery = json!({ "delivery": { "timeout": format!("{}s", (scale.seconds / 2).max(1)) } });
            let of = |endpoint| topic.subscription(&self.kind(endpoint), endpoint, &delivery);
            lab.create(&topic, endpoints.iter().map(of).collect()).await?;
            topics.push((topic, endpoints));
        }
        lab.wait_subscribed((before + each * namespaces) as usize).await?;
        Ok(topics)
    }

    fn kind(&self, endpoint: &Endpoint) -> String {
        match self.load {
            Load::Steady(_) => kind(endpoint),
            Load::Backlog => "all".to_owned(),
        }
    }

    async fn publish(&self, lab: &Lab, topic: &Topic, endpoints: &[Endpoint], scale: Scale) -> Result<()> {
        let to = |number: u64| self.kind(&endpoints[(number % endpoints.len() as u64) as usize]);
        match self.load {
            Load::Steady(rate) => {
                let lasting = Duration::from_secs(scale.seconds + scale.seconds / 2);
                lab.publish_steadily(topic, (rate / self.namespaces).max(1), lasting, to).await?;
            }
            Load::Backlog => drop(lab.publish(topic, scale.deliveries / 2, SIZE, to).await?),
        }
        Ok(())
    }
}

impl Badly {
    fn of(self, scale: Scale) -> Behaviour {
        match self {
            Self::Slow => Behaviour::Slow((scale.seconds * 500).min(29_000)),
            Self::Hang => Behaviour::Hang,
            Self::Refuse => Behaviour::Refusing(scale.seconds * 1_000 / 6),
        }
    }
}

/// The type of the events for an endpoint.
fn kind(endpoint: &Endpoint) -> String {
    format!("t.{}", endpoint.number)
}
