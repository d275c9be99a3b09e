//! How the parts fit together.
//!
//! ```text
//! config bucket -> config -> index            liveness: the lease; without it nothing is matched or attempted
//! state bucket  -> disabled                   health: counts -> health bucket
//!
//! producer's stream -> reader -> hold: fanout -> pending ...
//! parked deliveries -> reader -> hold: due    -> pending
//!                      pending: lane -> slots -> deliver
//!                      deliver: request -> sender -> decide -> done | park | dead letter -> hold settled -> ack
//! ```
//!
//! To stop: readers stop pulling, what waits is parked, what is under way is finished; then health is written, the
//! lease removed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::stream;
use hookwright_core::nats::names::{DUE_CONSUMER, PARKED_STREAM};
use hookwright_core::record::seal::SealingKey;
use hookwright_runtime::admin::{self, NotReady};
use hookwright_runtime::logging::{self, Seldom, chain};
use hookwright_runtime::nats::{self, Nats};
use hookwright_runtime::{settings, shutdown};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::ack::batch::Acks;
use crate::clock::Clock;
use crate::config::disabled::DisabledSet;
use crate::config::index::Index;
use crate::config::loader::ConfigLoader;
use crate::deliver::attempt::Deliverer;
use crate::deliver::queued::{Pending, Turn};
use crate::health::{Health, HealthWriter};
use crate::http::sender::Sender;
use crate::intake::budget::Budget;
use crate::intake::read_ahead::Backlog;
use crate::intake::reader::{Reader, Source};
use crate::intake::readers;
use crate::limits::attempts::Slots;
use crate::limits::lane::{self, Lanes};
use crate::liveness::{Liveness, Renewer};
use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::parking::parked_budget::{Pressure, PressureGauge};
use crate::parking::quota::Quota;
use crate::parking::store::Store;
use crate::settings::{Arguments, Settings};
use crate::validate::schema_violations::ViolationCounts;
use crate::validate::validator::Validator;

/// What a NATS message has beside its headers and body.
const MESSAGE_OVERHEAD: usize = 4096;
/// How long saying goodbye to NATS may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// Parked deliveries have a budget of their own: a share of the events' one.
const DUE_SHARE: usize = 4;

/// Runs until a signal, or until something says that this can't work.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings: Settings = settings::load(&arguments.config)?;
    settings.check()?;
    let key = settings.sealing.load()?;
    logging::init(&settings.log);
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("another TLS provider is installed");
    }
    let sender = Sender::new(&settings.dns, settings.egress.clone())?;
    if arguments.check_config {
        info!("the settings are fine");
        return Ok(());
    }
    let (metrics, registry) = Metrics::register();
    let (ready, readiness) = watch::channel(Some("waiting for NATS".to_owned()));
    let http = settings.http.clone();
    let mut admin = tokio::spawn(async move { admin::serve(&http, readiness, registry).await });
    let mut running = tokio::select! {
        started = Running::start(settings, key, sender, metrics, ready) => started?,
        result = &mut admin => return admin_ended(result),
        signal = shutdown::requested() => return signal.context("can't wait for signals"),
    };
    tokio::select! {
        result = &mut admin => return admin_ended(result),
        Some(ended) = running.vital.join_next() => anyhow::bail!("a part of the dispatcher ended: {ended:?}"),
        Some(ended) = running.readers.join_next() => anyhow::bail!("a reader ended: {ended:?}"),
        signal = shutdown::requested() => signal.context("can't wait for signals")?,
    }
    running.stop().await;
    Ok(())
}

fn admin_ended(result: Result<std::io::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    result.context("the admin endpoint panicked")?.context("the admin endpoint failed")
}

/// What waits for its turn; closed when dropped, as what waits may start nothing any more then.
struct Queues {
    lanes: Arc<Lanes<Pending>>,
    slots: Arc<Slots<Turn>>,
}

impl Queues {
    fn close(&self) {
        self.lanes.close();
        self.slots.close();
    }

    /// For ever.
    async fn sweep(lanes: Arc<Lanes<Pending>>, slots: Arc<Slots<Turn>>) {
        let mut ticks = interval(lane::SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            lanes.sweep(now);
            slots.sweep(now);
        }
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        self.close();
    }
}

/// A dispatcher at work.
struct Running {
    nats: Nats,
    incarnation: String,
    grace: Duration,
    /// Cancelled to stop the readers.
    stop: CancellationToken,
    queues: Queues,
    /// The messages that are held.
    tracker: TaskTracker,
    /// What never ends before `stop`: if it does, it has panicked, and the dispatcher must not go on without it.
    vital: JoinSet<()>,
    /// The same of those that end at `stop`.
    readers: JoinSet<()>,
    writing: JoinHandle<()>,
    violations: Arc<ViolationCounts>,
    /// Dropped to have the counts written for the last time.
    stop_writing: oneshot::Sender<()>,
}

impl Running {
    async fn start(
        settings: Settings,
        key: SealingKey,
        sender: Sender,
        metrics: Arc<Metrics>,
        ready: watch::Sender<NotReady>,
    ) -> anyhow::Result<Self> {
        let incarnation = format!("{:016x}", rand::random::<u64>());
        let nats = nats::connect(&settings.nats, &format!("hookwright-dispatcher-{incarnation}")).await?;
        ready.send_replace(Some(format!("waiting for stream {PARKED_STREAM}: the operator creates it")));
        wait_for_parked_stream(&nats).await?;

        let (index, liveness, disabled) = (Index::new(), Liveness::new(), DisabledSet::new());
        let (health, changed) = Health::new();
        let slots = Slots::new(settings.max_in_flight);
        let (patience, waiting) = (settings.lane.waiting, settings.max_waiting);
        let lanes = Lanes::new(settings.lane_in_flight(), patience, waiting, slots.load());
        let queues = Queues { lanes: Arc::clone(&lanes), slots: Arc::clone(&slots) };
        let egress = settings.egress.clone();
        let loader = ConfigLoader { index: Arc::clone(&index), health: Arc::clone(&health), key, egress, lanes };
        let mut vital = JoinSet::new();
        let clock = Clock::new(settings.clock_shift);
        vital.spawn(Arc::clone(&clock).keep(nats.clone(), Arc::clone(&metrics)));
        vital.spawn(Queues::sweep(Arc::clone(&queues.lanes), Arc::clone(&slots)));
        vital.spawn(loader.run(nats.clone()));
        vital.spawn(Arc::clone(&disabled).run(nats.clone()));
        disabled.loaded().await;
        let renewer = Renewer {
            nats: nats.clone(),
            liveness: Arc::clone(&liveness),
            loaded: index.loaded(),
            index: Arc::clone(&index),
            incarnation: incarnation.clone(),
        };
        let (stop_writing, stopped) = oneshot::channel::<()>();
        let writer = HealthWriter {
            nats: nats.clone(),
            index: Arc::clone(&index),
            clock: Arc::clone(&clock),
            incarnation: incarnation.clone(),
            changed,
            complaints: Seldom::default(),
        };
        let stop = CancellationToken::new();
        let violations = ViolationCounts::new(nats.clone(), Arc::clone(&index));
        vital.spawn(Arc::clone(&violations).run());
        let (pressure_gauge, pressure) =
            PressureGauge::new(nats.clone(), Arc::clone(&metrics), settings.parked_budget_bytes);
        let deliverer = Deliverer {
            index: Arc::clone(&index),
            disabled,
            liveness: Arc::clone(&liveness),
            clock: Arc::clone(&clock),
            sender,
            store: Store::new(nats.clone()),
            quota: Quota::new(settings.park_quota, pressure.clone(), nats.clone(), incarnation.clone()),
            metrics: Arc::clone(&metrics),
            validator: Validator::new(Arc::clone(&index), Arc::clone(&metrics)),
            violations: Arc::clone(&violations),
            slots: Arc::clone(&slots),
            stop: stop.clone(),
        };
        let tracker = TaskTracker::new();
        let (readers, events) = start_readers(&settings, &nats, deliverer, pressure, &tracker, &stop)?;
        vital.spawn(async {
            pressure_gauge.run().await;
        });
        let grace = settings.shutdown_grace;
        let observer = Observer {
            settings,
            index,
            liveness,
            clock,
            metrics,
            events,
            load: Arc::clone(slots.load()),
            ready,
            stop: stop.clone(),
        };
        vital.spawn(renewer.run());
        vital.spawn(observer.run());
        Ok(Self {
            nats,
            incarnation,
            grace,
            stop,
            queues,
            tracker,
            vital,
            readers,
            writing: tokio::spawn(writer.run(async { drop(stopped.await) })),
            violations,
            stop_writing,
        })
    }

    /// Stops pulling, parks what waits for its turn, finishes what is under way; then writes the counts and removes the lease.
    async fn stop(mut self) {
        let deadline = Instant::now() + self.grace;
        info!(held = self.tracker.len(), "stopping");
        self.stop.cancel();
        self.queues.close();
        // First the readers: what a pull has brought in is held, too. With them, the last acks.
        let drained = async {
            while self.readers.join_next().await.is_some() {}
            self.tracker.close();
            self.tracker.wait().await;
        };
        if timeout_at(deadline, drained).await.is_err() {
            warn!(held = self.tracker.len(), "stopped before all was settled: it comes again at another dispatcher");
        }
        drop(self.stop_writing);
        if timeout_at(deadline + GOODBYE, self.writing).await.is_err() {
            warn!("stopped before all counts were written");
        }
        // No renewal may come after the lease is removed.
        self.vital.shutdown().await;
        let goodbye = async {
            self.violations.finish().await;
            Renewer::leave(&self.nats, &self.incarnation).await;
            // The acks on their way: without them the events come again.
            if let Err(error) = self.nats.client.flush().await {
                warn!(error = chain(&error), "can't flush");
            }
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// Starts the reader of parked deliveries, and one for each producer; returns the budget of the latter.
fn start_readers(
    settings: &Settings,
    nats: &Nats,
    deliverer: Deliverer,
    pressure: Pressure,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<(JoinSet<()>, Arc<Budget>)> {
    let max_message = u32::try_from(nats.client.server_info().max_payload + MESSAGE_OVERHEAD)?;
    let (events, due) = budgets(settings, max_message);
    let serving = deliverer.index.serving();
    let (acks, sending) = Acks::new(nats.client.clone());
    let reader = Reader {
        nats: nats.clone(),
        deliverer: Arc::new(deliverer),
        pressure,
        budget: Arc::clone(&events),
        backlog: Backlog::new(settings.max_waiting),
        acks,
        tracker: tracker.clone(),
        max_message,
    };
    let due_reader = Reader { budget: due, ..reader.clone() };
    let mut readers = JoinSet::new();
    readers.spawn(sending);
    readers.spawn(due_reader.run(Source::Due { stream: PARKED_STREAM, consumer: DUE_CONSUMER }, stop.clone()));
    readers.spawn(readers::run(reader, serving, stop.clone()));
    Ok((readers, events))
}

fn budgets(settings: &Settings, max_message: u32) -> (Arc<Budget>, Arc<Budget>) {
    let events = Budget::new(settings.max_held_events, settings.max_held_bytes, max_message);
    let due =
        Budget::new((settings.max_held_events / DUE_SHARE).max(1), settings.max_held_bytes / DUE_SHARE, max_message);
    (Arc::new(events), Arc::new(due))
}

/// The operator creates the stream. One with limits is refused: a full one would silently drop what waits in it.
async fn wait_for_parked_stream(nats: &Nats) -> anyhow::Result<()> {
    loop {
        match nats.jetstream.get_stream(PARKED_STREAM).await {
            Ok(found) => return check_parked_stream(&found.cached_info().config),
            Err(error) => {
                info!(error = chain(&error), "waiting for stream {PARKED_STREAM}: the operator creates it");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

fn check_parked_stream(config: &stream::Config) -> anyhow::Result<()> {
    anyhow::ensure!(
        config.allow_message_schedules && config.retention == stream::RetentionPolicy::WorkQueue,
        "stream {PARKED_STREAM} is not a work queue with message schedules: delete it, the operator creates it anew"
    );
    let unlimited = config.max_bytes <= 0
        && config.max_messages <= 0
        && config.max_messages_per_subject <= 0
        && config.max_age.is_zero()
        && config.max_message_size <= 0;
    anyhow::ensure!(unlimited, "stream {PARKED_STREAM} has limits: what waits in it could be dropped; remove them");
    Ok(())
}
