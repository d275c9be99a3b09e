//! How the parts fit together.
//!
//! ```text
//! config bucket -> config -> index            liveness: the lease; without it nothing is matched or attempted
//! state bucket  -> disabled                   health: counts -> health bucket
//!
//! producer's stream -> reader -> hold(fanout -> deliver ...) -> ack
//! parked deliveries -> reader -> hold(due    -> deliver)     -> ack
//!                      deliver: lane -> request -> sender -> decide -> done | park | dead letter
//! ```
//!
//! To stop: readers stop pulling, what waits is parked, what is under way is finished; then health is written, the
//! lease removed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::stream;
use hookwright_core::names::{DUE_CONSUMER, PARKED_STREAM};
use hookwright_runtime::admin::{self, NotReady};
use hookwright_runtime::logging::{self, chain};
use hookwright_runtime::nats::{self, Nats};
use hookwright_runtime::{settings, shutdown};
use jiff::Timestamp;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::budget::Budget;
use crate::config::ConfigLoader;
use crate::deliver::Deliverer;
use crate::disabled::DisabledSet;
use crate::health::{Health, HealthWriter};
use crate::index::Index;
use crate::liveness::{Liveness, Renewer};
use crate::metrics::Metrics;
use crate::reader::{Reader, Source};
use crate::readers;
use crate::sender::Sender;
use crate::settings::{Arguments, Settings};
use crate::store::Store;

/// What a NATS message has beside its headers and body.
const MESSAGE_OVERHEAD: usize = 4096;
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
    tokio::select! {
        result = serve(settings, key, sender, metrics, ready) => result,
        result = &mut admin => result.context("the admin endpoint panicked")?.context("the admin endpoint failed"),
        signal = shutdown::requested() => signal.context("can't wait for signals"),
    }
}

async fn serve(
    settings: Settings,
    key: hookwright_core::seal::SealingKey,
    sender: Sender,
    metrics: Arc<Metrics>,
    ready: watch::Sender<NotReady>,
) -> anyhow::Result<()> {
    let incarnation = format!("{:016x}", rand::random::<u64>());
    let nats = nats::connect(&settings.nats, &format!("hookwright-dispatcher-{incarnation}")).await?;
    ready.send_replace(Some(format!("waiting for stream {PARKED_STREAM}: the operator creates it")));
    wait_for_parked_stream(&nats).await?;

    let (index, liveness, disabled) = (Index::new(), Liveness::new(), Arc::new(DisabledSet::default()));
    let (health, changed) = Health::new();
    let loader = ConfigLoader::new(&settings, key, Arc::clone(&index), Arc::clone(&health));
    tokio::spawn(loader.run(nats.clone()));
    tokio::spawn(Arc::clone(&disabled).run(nats.clone()));
    let renewer = Renewer {
        nats: nats.clone(),
        liveness: Arc::clone(&liveness),
        loaded: index.loaded(),
        incarnation: incarnation.clone(),
        started: Timestamp::now(),
    };
    let renewing = tokio::spawn(renewer.run());
    let (stop_health, health_stopped) = oneshot::channel::<()>();
    let writer = HealthWriter {
        nats: nats.clone(),
        health,
        index: Arc::clone(&index),
        incarnation: incarnation.clone(),
        changed,
    };
    let writing = tokio::spawn(writer.run(async { drop(health_stopped.await) }));

    let stop = CancellationToken::new();
    let deliverer = Arc::new(Deliverer {
        index: Arc::clone(&index),
        disabled,
        liveness: Arc::clone(&liveness),
        sender,
        store: Store::new(nats.clone()),
        metrics: Arc::clone(&metrics),
        slots: Arc::new(Semaphore::new(settings.max_in_flight)),
        stop: stop.clone(),
    });
    let max_message = u32::try_from(nats.client.server_info().max_payload + MESSAGE_OVERHEAD)?;
    let tracker = TaskTracker::new();
    let (events, due) = budgets(&settings, max_message);
    let reader =
        Reader { nats: nats.clone(), deliverer, budget: events.clone(), tracker: tracker.clone(), max_message };
    let due_reader = Reader { budget: due, ..reader.clone() };
    let slots = Arc::clone(&reader.deliverer.slots);
    tokio::spawn(readers::run(reader, index.serving(), stop.clone()));
    tokio::spawn(due_reader.run(Source::Due { stream: PARKED_STREAM, consumer: DUE_CONSUMER }, stop.clone()));
    let observer = Observer { settings: settings.clone(), index, liveness, metrics, events, slots };
    let observing = tokio::spawn(observer.run(ready));

    shutdown::requested().await.context("can't wait for signals")?;
    let deadline = Instant::now() + settings.shutdown_grace;
    info!(held = tracker.len(), "stopping");
    observing.abort();
    stop.cancel();
    tracker.close();
    if timeout_at(deadline, tracker.wait()).await.is_err() {
        warn!(held = tracker.len(), "stopped before all was settled: it comes again at another dispatcher");
    }
    drop(stop_health);
    if timeout_at(deadline, writing).await.is_err() {
        warn!("stopped before all counts were written");
    }
    renewing.abort();
    let goodbye = async {
        Renewer::leave(&nats, &incarnation).await;
        // The acks on their way: without them the events come again.
        if let Err(error) = nats.client.flush().await {
            warn!(error = chain(&error), "can't flush");
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
    Ok(())
}

fn budgets(settings: &Settings, max_message: u32) -> (Budget, Budget) {
    let events = Budget::new(settings.max_held_events, settings.max_held_bytes, max_message);
    let due =
        Budget::new((settings.max_held_events / DUE_SHARE).max(1), settings.max_held_bytes / DUE_SHARE, max_message);
    (events, due)
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
        && config.max_age.is_zero();
    anyhow::ensure!(unlimited, "stream {PARKED_STREAM} has limits: what waits in it could be dropped; remove them");
    Ok(())
}

/// Keeps readiness and gauges true.
struct Observer {
    settings: Settings,
    index: Arc<Index>,
    liveness: Arc<Liveness>,
    metrics: Arc<Metrics>,
    events: Budget,
    slots: Arc<Semaphore>,
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Observer {
    async fn run(self, ready: watch::Sender<NotReady>) {
        let mut changed = self.liveness.subscribe();
        let mut unreadable = None;
        loop {
            let live = self.liveness.is_live();
            let metrics = &self.metrics;
            metrics.live.set(i64::from(live));
            metrics.held_events.set(gauge(self.events.held(self.settings.max_held_events)));
            metrics.in_flight.set(gauge(self.settings.max_in_flight.saturating_sub(self.slots.available_permits())));
            metrics.subscriptions.set(gauge(self.index.subscriptions()));
            metrics.config_revision.set(i64::try_from(*self.index.loaded().borrow()).unwrap_or(i64::MAX));
            let reason = (!live).then(|| "the liveness lease does not hold".to_owned());
            ready.send_if_modified(|current| std::mem::replace(current, reason.clone()) != reason);
            let now_unreadable = self.index.unreadable();
            if now_unreadable != unreadable {
                if let Some(reason) = &now_unreadable {
                    error!(reason, "a Producer is not served");
                }
                unreadable = now_unreadable;
            }
            let _ = tokio::time::timeout(Duration::from_millis(500), changed.changed()).await;
        }
    }
}
