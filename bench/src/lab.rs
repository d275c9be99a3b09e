//! The laboratory: everything that Hookwright needs, started for real, with a sink and a publisher.

mod api_writes;
mod dispatchers;
mod objects;
mod publish;

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream::{self, consumer};
use futures::TryStreamExt;
use hookwright_e2e::{Options, User, World, wait_for};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cpu::{CpuLog, Recorder, Watched};
use crate::reference::{BareLoad, FloorLoad, Reference, Routes};
use crate::sink::{Behaviour, Receipt, Sink};
use crate::tally::{Tally, Wanted};

pub(crate) use dispatchers::{HOOKWRIGHT, peak_memory, resident_memory};
pub(crate) use objects::{Endpoint, Topic};

/// The name under which nats-server is watched.
pub(crate) const NATS: &str = "nats-server";
/// The name under which a reference is watched.
pub(crate) const REFERENCE: &str = "reference";
/// The prefix of the names of R2's consumers.
const FLOOR: &str = "floor-";
/// How long to wait until all webhooks have arrived.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(180);
/// How long processes go on after the last webhook was accepted: they still ack.
const SETTLING: Duration = Duration::from_millis(200);

/// Everything that a scenario needs.
pub(crate) struct Lab {
    pub(crate) world: World,
    pub(crate) sink: Sink,
    publisher: jetstream::Context,
    streams: jetstream::Context,
    next_event: AtomicU64,
    next_endpoint: AtomicU32,
    compared: Mutex<Compared>,
    running: Vec<bool>,
}

/// How many deliveries were compared, those of the references included.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Compared {
    pub(crate) deliveries: usize,
    pub(crate) lost: usize,
    pub(crate) duplicates: usize,
}

/// The measurements of a run.
pub(crate) struct Run {
    pub(crate) tally: Tally,
    cpu: CpuLog,
}

impl Run {
    /// The CPU time, in microseconds, that processes of this name took for each delivery, from the first acceptance
    /// until [`SETTLING`] after the last arrival.
    pub(crate) fn cpu_per_delivery(&self, name: &str) -> f64 {
        self.cpu_micros(name) / self.tally.wanted as f64
    }

    /// The CPU time, in microseconds, for each delivery from this moment on; `None` if fewer than a tenth of all
    /// deliveries came after it.
    pub(crate) fn cpu_per_delivery_since(&self, name: &str, moment: u64) -> Option<f64> {
        let since = self.tally.accepted_since(moment);
        (since * 10 >= self.tally.wanted).then(|| self.cpu_micros_since(name, moment) / since as f64)
    }

    fn cpu_micros(&self, name: &str) -> f64 {
        self.cpu_micros_since(name, self.tally.first())
    }

    fn cpu_micros_since(&self, name: &str, moment: u64) -> f64 {
        let until = self.tally.last_arrival + SETTLING.as_nanos() as u64;
        self.cpu.used(name, moment, until).as_secs_f64() * 1e6
    }
}

impl Lab {
    /// Starts everything, with one dispatcher that has these settings.
    pub(crate) async fn start(mut settings: Map<String, Value>, progress: fn(&str, Duration)) -> Result<Self> {
        // After a recovery everything that waited has to be delivered, so nothing may be given up.
        let parking = || json!({ "quota": { "deliveries": 1_000_000, "bytes": "8Gi" } });
        settings.entry("parking").or_insert_with(parking);
        let dispatcher = Value::Object(settings);
        let world = World::start(Options { dispatcher, servers: 1, progress, ..Options::default() }).await?;
        let sink = Sink::start(world.folder()).await?;
        let (publisher, streams) = (world.nats.jetstream(User::App).await?, world.nats.jetstream(User::Admin).await?);
        let (next_event, next_endpoint) = (AtomicU64::new(1), AtomicU32::new(1));
        let (compared, running) = (Mutex::default(), vec![true]);
        Ok(Self { world, sink, publisher, streams, next_event, next_endpoint, compared, running })
    }

    pub(crate) fn nats_version(&self) -> String {
        self.streams.client().server_info().version
    }

    pub(crate) fn folder(&self) -> &Path {
        self.world.folder()
    }

    /// A new endpoint.
    pub(crate) fn endpoint(&self, behaviour: Behaviour) -> Endpoint {
        let number = self.next_endpoint.fetch_add(1, Ordering::Relaxed);
        Endpoint { number, url: self.sink.url(number, behaviour) }
    }

    /// New numbers of events.
    pub(crate) fn numbers(&self, events: u64) -> Range<u64> {
        let first = self.next_event.fetch_add(events, Ordering::Relaxed);
        first..first + events
    }

    /// The running dispatchers, nats-server and the sink, to be watched.
    pub(crate) fn watched(&self) -> Result<Vec<Watched>> {
        let mut watched = vec![Watched::new(NATS, self.world.nats.servers()[0].id())?, self.sink.watched()?];
        for id in self.dispatcher_ids()? {
            watched.push(Watched::new(HOOKWRIGHT, id)?);
        }
        Ok(watched)
    }

    /// Waits until as many webhooks were accepted as are wanted, and compares all that arrived.
    pub(crate) async fn collect(&self, recorder: Recorder, wanted: &[Wanted]) -> Result<Run> {
        let (cpu, receipts) = self.arrivals(recorder, wanted.len()).await?;
        Ok(Run { tally: self.compare(wanted, &receipts)?, cpu })
    }

    /// Collects a run beside endpoints that hang or fail. What arrives there has to be whole and meant for them, and is not
    /// accepted.
    pub(crate) async fn collect_of(&self, recorder: Recorder, wanted: &[Wanted], failing: &[Wanted]) -> Result<Run> {
        let (cpu, receipts) = self.arrivals(recorder, wanted.len()).await?;
        let (others, ours) = part(receipts, failing);
        let others = Tally::of(failing, &others)?.unaccepted()?;
        let mut tally = self.compare(wanted, &ours)?;
        tally.refused = others.refused;
        Ok(Run { tally, cpu })
    }

    /// Compares every input with every output.
    pub(crate) fn compare(&self, wanted: &[Wanted], receipts: &[Receipt]) -> Result<Tally> {
        let tally = Tally::of(wanted, receipts)?;
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.deliveries += tally.wanted;
        compared.lost += tally.lost;
        compared.duplicates += tally.duplicates;
        Ok(tally)
    }

    /// How much was compared since the last call.
    pub(crate) fn compared(&self) -> Compared {
        std::mem::take(&mut self.compared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Collects a run beside others' deliveries, each of which may arrive, once. What arrives there has to be whole and
    /// meant for them.
    pub(crate) async fn collect_beside(&self, recorder: Recorder, wanted: &[Wanted], others: &[Wanted]) -> Result<Run> {
        // Deliveries to others count among the accepted, so all that is published has to be settled.
        let (cpu, receipts) = self.arrivals(recorder, wanted.len()).await?;
        let (theirs, ours) = part(receipts, others);
        let theirs = Tally::of(others, &theirs)?;
        ensure!(theirs.duplicates == 0, "{} deliveries of others arrived again", theirs.duplicates);
        Ok(Run { tally: self.compare(wanted, &ours)?, cpu })
    }

    async fn arrivals(&self, recorder: Recorder, count: usize) -> Result<(CpuLog, Vec<Receipt>)> {
        self.all_accepted(count).await?;
        tokio::time::sleep(SETTLING).await;
        let cpu = recorder.stop().await?;
        self.settled().await?;
        Ok((cpu, self.sink.take().await?))
    }

    /// Waits until this many webhooks were accepted.
    pub(crate) async fn all_accepted(&self, count: usize) -> Result<()> {
        wait_for("all webhooks to arrive", ARRIVAL, async || {
            let accepted = self.sink.accepted().await?;
            ensure!(accepted >= count, "{accepted} of {count} were accepted");
            Ok(())
        })
        .await
    }

    /// Waits until no event waits for its ack, so everything that was to come again has come. A reference's consumers
    /// count while there are any, Hookwright's while dispatchers run.
    pub(crate) async fn settled(&self) -> Result<()> {
        let dispatching = self.running.iter().any(|running| *running);
        wait_for("all events to be acked", ARRIVAL, async || {
            let mut streams = self.streams.streams();
            while let Some(stream) = streams.try_next().await? {
                if !stream.config.name.ends_with(objects::STREAM) {
                    continue;
                }
                let mut consumers = self.streams.get_stream(&stream.config.name).await?.consumers();
                while let Some(consumer) = consumers.try_next().await? {
                    let left = consumer.num_pending + consumer.num_ack_pending as u64;
                    let counts = dispatching || consumer.name.starts_with(FLOOR);
                    ensure!(left == 0 || !counts, "{left} events of consumer {} are not", consumer.name);
                }
            }
            Ok(())
        })
        .await
    }

    /// Discards everything that has arrived so far.
    pub(crate) async fn forget(&self) -> Result<()> {
        self.sink.take().await.map(drop)
    }

    /// Runs R1, which sends this many events to an endpoint of its own.
    pub(crate) async fn bare(&self, events: u64, size: usize, in_flight: usize) -> Result<Run> {
        let (endpoint, numbers) = (self.endpoint(Behaviour::Ok), self.numbers(events));
        let load = BareLoad { url: endpoint.url, first: numbers.start, events, size, in_flight };
        let reference = Reference::bare(self.folder(), &load)?;
        let recorder = Recorder::start(vec![reference.watched(REFERENCE)?, self.sink.watched()?]);
        let wanted: Vec<Wanted> = numbers.map(|number| (endpoint.number, number)).collect();
        let run = self.collect(recorder, &wanted).await;
        reference.check()?;
        run
    }

    /// Creates R2's consumers, one for each endpoint. Each gets the events that are published to the topic from now on.
    pub(crate) async fn floor_routes(&self, topic: &Topic, endpoints: &[Endpoint]) -> Result<Routes> {
        let mut routes = Vec::new();
        for endpoint in endpoints {
            let name = format!("{FLOOR}{}", endpoint.number);
            let config = consumer::pull::Config {
                durable_name: Some(name.clone()),
                deliver_policy: consumer::DeliverPolicy::New,
                max_ack_pending: 50_000,
                ..consumer::pull::Config::default()
            };
            self.streams.create_consumer_on_stream(config, &topic.stream).await.context("a consumer for R2")?;
            routes.push((name, endpoint.url.clone()));
        }
        Ok(routes)
    }

    /// Starts R2 with these consumers.
    pub(crate) fn floor(&self, topic: &Topic, routes: &Routes, in_flight: usize) -> Result<Reference> {
        let load = FloorLoad { stream: topic.stream.clone(), routes: routes.clone(), in_flight };
        Reference::floor(self.folder(), &self.world.nats, &load)
    }

    /// Ends R2 and removes its consumers.
    pub(crate) async fn end_floor(&self, topic: &Topic, routes: Routes, reference: Reference) -> Result<()> {
        reference.check()?;
        drop(reference);
        for (consumer, _) in routes {
            self.streams.delete_consumer_from_stream(&consumer, &topic.stream).await?;
        }
        Ok(())
    }

    /// Lets R2 drain the events that were published since its consumers were created, and removes the consumers.
    pub(crate) async fn floor_drain(
        &self,
        topic: &Topic,
        routes: Routes,
        wanted: &[Wanted],
        in_flight: usize,
    ) -> Result<Run> {
        let reference = self.floor(topic, &routes, in_flight)?;
        let nats = Watched::new(NATS, self.world.nats.servers()[0].id())?;
        let watched = vec![reference.watched(REFERENCE)?, nats, self.sink.watched()?];
        let run = self.collect(Recorder::start(watched), wanted).await;
        self.end_floor(topic, routes, reference).await?;
        run
    }

    /// Returns an error if a dispatcher has panicked.
    pub(crate) fn check(&self) -> Result<()> {
        for log in self.world.dispatchers.iter().map(|dispatcher| dispatcher.logs()) {
            if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
                bail!("a dispatcher says: {line}");
            }
        }
        Ok(())
    }
}

/// Splits the receipts into those of `others` and the rest.
pub(crate) fn part(receipts: Vec<Receipt>, others: &[Wanted]) -> (Vec<Receipt>, Vec<Receipt>) {
    let others: HashSet<&Wanted> = others.iter().collect();
    receipts.into_iter().partition(|receipt| others.contains(&(receipt.endpoint, receipt.number)))
}
