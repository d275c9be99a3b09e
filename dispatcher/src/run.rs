//! Constructs the parts of a dispatcher, runs them and stops them.
//!
//! ```text
//! config bucket -> config::loader -> index    liveness: the lease; without it nothing is matched or attempted
//! egress file   -> config::loader, http       rules that change judge all endpoints anew
//! state bucket  -> config::disabled           health: counts -> health bucket
//!
//! producer's stream -> reader -> hold: fan_out -> queued ...
//! parked deliveries -> reader -> hold: due     -> queued
//! producer's stream -> catch_up -> queued      for Subscriptions that are behind (positions bucket), whose slot is ours
//!                      queued: lane -> attempts -> attempt
//!                      attempt: request -> sender -> decide -> done | park | dead letter -> hold settled -> ack
//! ```
//!
//! To stop, the readers stop pulling, deliveries that wait for their turn are parked, and attempts under way are
//! finished. Then the counts are written and the lease is removed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{DUE_CONSUMER, PARKED_STREAM};
use hookwright_core::record::lease::Keeps;
use hookwright_core::seal::SealingKeys;
use hookwright_runtime::admin::{self, NotReady};
use hookwright_runtime::egress::{EgressFile, InForce};
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::nats::{self, Nats};
use hookwright_runtime::shutdown;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::ack::batch::Acks;
use crate::catch_up;
use crate::catch_up::blocks::Blocks;
use crate::catch_up::slots::Slots;
use crate::catch_up::turns::Turns;
use crate::clock::Clock;
use crate::config::disabled::DisabledSet;
use crate::config::index::Index;
use crate::config::loader::ConfigLoader;
use crate::config::passed_over;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::queues::Queues;
use crate::health::{Health, HealthCell, HealthWriter};
use crate::http::sender::Sender;
use crate::intake::connections::Connections;
use crate::intake::reader::{Reader, Source};
use crate::intake::readers;
use crate::limits::attempts::Attempts;
use crate::limits::budget::Budget;
use crate::limits::lane::Lanes;
use crate::limits::outage::Tenants;
use crate::limits::read_ahead::ReadAhead;
use crate::limits::shares::Room;
use crate::limits::sockets;
use crate::liveness::{Liveness, Renewer};
use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::parking::dead_letter_budget::DeadLetterBudget;
use crate::parking::parked_budget::{ParkedBudget, ParkedBudgetGauge};
use crate::parking::parked_stream;
use crate::parking::quota::Quota;
use crate::parking::store::Store;
use crate::position::positions::Positions;
use crate::settings::{LimitSettings, Settings};
use crate::validate::fair_queue::FairQueue;
use crate::validate::schema_violations::ViolationCounts;
use crate::validate::validator::Validator;

/// The size of a NATS message besides its headers and body, in bytes.
const MESSAGE_OVERHEAD: usize = 4096;
/// How long the last requests to NATS may take when the dispatcher stops.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// Due deliveries have a budget of their own, and so have Subscriptions that are behind: the budget of events, divided by
/// this.
const DUE_SHARE: usize = 4;
/// Blocks that several catching-up Subscriptions share may use the byte budget, divided by this.
const BLOCKS_SHARE: usize = 8;

/// Runs the dispatcher until it is asked to stop, or until an error makes it impossible to go on. With `check_config`
/// it only reads and checks the settings.
pub async fn run(mut settings: Settings, check_config: bool) -> anyhow::Result<()> {
    settings.nats.names = settings.installation.prefix.clone();
    settings.check()?;
    let sealing = settings.sealing.load()?;
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (metrics, registry) = Metrics::register();
    settings.limits.in_flight = sockets::for_attempts(settings.limits.in_flight);
    let egress = EgressFile::open(settings.egress_file.as_deref())?;
    let Settings { dns, connections, limits, .. } = &settings;
    let sender = Sender::new(dns, connections, egress.in_force(), limits.in_flight, Arc::clone(&metrics))?;
    if check_config {
        info!("the settings are valid");
        return Ok(());
    }
    let (ready, readiness) = watch::channel(Some("waiting for NATS".to_owned()));
    let http = settings.http.clone();
    let mut admin = tokio::spawn(async move { admin::serve(&http, readiness, registry).await });
    let mut running = tokio::select! {
        started = Running::start(settings, sealing, (sender, egress), metrics, ready) => started?,
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

/// The budgets of what is held in memory.
struct HeldBudgets {
    /// The events that the readers of Producers have read.
    events: Arc<Budget>,
    due: Arc<Budget>,
    /// The events of Subscriptions that are behind.
    behind: Budget,
    /// The setting `limits.heldBytes`.
    bytes: usize,
    /// The largest message that the server lets through, in bytes.
    max_message: u32,
}

impl HeldBudgets {
    fn new(limits: &LimitSettings, nats: &Nats) -> anyhow::Result<Self> {
        let max_message = u32::try_from(nats.client.server_info().max_payload + MESSAGE_OVERHEAD)?;
        let (held, bytes) = (limits.held_events, usize::try_from(limits.held_bytes.get())?);
        let part = || Budget::new((held / DUE_SHARE).max(1), bytes / DUE_SHARE, max_message);
        let (events, due) = (Arc::new(Budget::new(held, bytes, max_message)), Arc::new(part()));
        Ok(Self { events, due, behind: part(), bytes, max_message })
    }
}

/// The state and the settings that the parts of a dispatcher share.
struct Shared {
    settings: Settings,
    /// For leases and config alone, so that nothing that is stored or read keeps them waiting.
    control: Nats,
    /// For whatever is stored, acked and counted, and for due deliveries.
    nats: Nats,
    incarnation: String,
    index: Arc<Index>,
    liveness: Arc<Liveness>,
    disabled: Arc<DisabledSet>,
    positions: Arc<Positions>,
    slots: Arc<Slots>,
    tenants: Arc<Tenants>,
    dead_letters: Arc<DeadLetterBudget>,
    health: Arc<Health>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    violations: Arc<ViolationCounts>,
    queues: Queues,
    /// The slots of attempts under way.
    attempts_room: Arc<Room>,
    budgets: HeldBudgets,
    tracker: TaskTracker,
    /// The egress rules in force, and the digest of those by which all endpoints were judged.
    egress: InForce,
    judged: watch::Sender<String>,
    /// Cancelled to stop the readers.
    stop: CancellationToken,
}

impl Shared {
    /// Constructs the shared parts; returns with them the receiver of changed counts.
    fn new(
        settings: Settings,
        (control, nats): (Nats, Nats),
        incarnation: String,
        egress: InForce,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<(Self, tokio::sync::mpsc::UnboundedReceiver<Arc<HealthCell>>)> {
        let (index, clock) = (Index::new(), Clock::new().context("the shift of the clock that a test asks for")?);
        let (health, changed) = Health::new();
        let (limits, liveness) = (&settings.limits, Liveness::new());
        let (attempts, judged) = (Attempts::new(), watch::Sender::new(egress.borrow().digest.clone()));
        let attempts_room = Arc::new(Room::new(limits.in_flight));
        let lanes = Lanes::new(settings.lane_in_flight(), settings.lane.waiting, limits.waiting, &attempts_room);
        let shared = Self {
            violations: ViolationCounts::new(nats.clone(), Arc::clone(&index)),
            dead_letters: DeadLetterBudget::new(nats.clone(), Arc::clone(&clock), settings.parking.dead_letters.get()),
            clock,
            disabled: DisabledSet::new(),
            positions: Positions::new(nats.clone()),
            tenants: Arc::default(),
            attempts_room,
            budgets: HeldBudgets::new(limits, &nats)?,
            slots: Slots::new(control.clone(), Arc::clone(&liveness), incarnation.clone()),
            liveness,
            queues: Queues { lanes, attempts, read_ahead: ReadAhead::new(limits.waiting) },
            tracker: TaskTracker::new(),
            judged,
            egress,
            stop: CancellationToken::new(),
            settings,
            control,
            nats,
            incarnation,
            index,
            health,
            metrics,
        };
        Ok((shared, changed))
    }

    /// Starts the tasks that follow NATS and keep time.
    fn spawn_background(&self, sealing: SealingKeys, vital: &mut JoinSet<()>) {
        let loader = ConfigLoader {
            index: Arc::clone(&self.index),
            health: Arc::clone(&self.health),
            positions: Arc::clone(&self.positions.cells),
            tenants: Arc::clone(&self.tenants),
            sealing,
            egress: self.egress.clone(),
            judged: self.judged.clone(),
        };
        vital.spawn(Arc::clone(&self.clock).keep(self.nats.clone(), Arc::clone(&self.metrics)));
        let Queues { lanes, attempts, read_ahead } = &self.queues;
        let (lanes, attempts, read_ahead) = (Arc::clone(lanes), Arc::clone(attempts), Arc::clone(read_ahead));
        let (index, health) = (Arc::clone(&self.index), Arc::clone(&self.health));
        vital.spawn(Queues::sweep(lanes, attempts, read_ahead, index, health));
        vital.spawn(passed_over::count(Arc::clone(&self.index), Arc::clone(&self.clock), Arc::clone(&self.metrics)));
        vital.spawn(loader.run(self.control.clone()));
        vital.spawn(Arc::clone(&self.disabled).run(self.control.clone()));
        vital.spawn(Arc::clone(&self.positions).run(self.control.clone()));
        vital.spawn(Arc::clone(&self.slots).follow());
        vital.spawn(Arc::clone(&self.slots).keep());
        vital.spawn(Arc::clone(&self.violations).run());
        vital.spawn(Arc::clone(&self.dead_letters).follow());
        vital.spawn(Arc::clone(&self.dead_letters).write());
        for nats in [self.nats.clone(), self.control.clone()] {
            vital.spawn(async move {
                nats.ended().await;
                error!("the client of NATS has panicked; the dispatcher ends, and has to be started again");
            });
        }
    }

    fn deliverer(&self, sender: Sender, parked_budget: ParkedBudget) -> Deliverer {
        let quota = self.settings.parking.quota.into();
        Deliverer {
            index: Arc::clone(&self.index),
            disabled: Arc::clone(&self.disabled),
            positions: Arc::clone(&self.positions),
            dead_letters: Arc::clone(&self.dead_letters),
            liveness: Arc::clone(&self.liveness),
            clock: Arc::clone(&self.clock),
            sender,
            store: Store::new(self.nats.clone()),
            quota: Quota::new(quota, parked_budget, self.nats.clone(), self.incarnation.clone()),
            metrics: Arc::clone(&self.metrics),
            validator: Validator::new(Arc::clone(&self.index), Arc::clone(&self.metrics)),
            sifting: FairQueue::of_processors(),
            programs: FairQueue::of_processors(),
            violations: Arc::clone(&self.violations),
            lanes: Arc::clone(&self.queues.lanes),
            attempts: Arc::clone(&self.queues.attempts),
            slots: Arc::clone(&self.attempts_room),
            due: Arc::clone(&self.budgets.due),
            tenants: Arc::clone(&self.tenants),
            stop: self.stop.clone(),
        }
    }

    fn renewer(&self) -> Renewer {
        let parking = &self.settings.parking;
        Renewer {
            nats: self.control.clone(),
            liveness: Arc::clone(&self.liveness),
            positions: Arc::clone(&self.positions.cells),
            loaded: self.index.loaded.revision(),
            loaded_positions: self.positions.cells.loaded.revision(),
            judged: self.judged.subscribe(),
            index: Arc::clone(&self.index),
            keeps: Keeps { parked: parking.budget.get(), dead_letters: parking.dead_letters.get() },
            incarnation: self.incarnation.clone(),
        }
    }

    fn health_writer(
        &self,
        changed: tokio::sync::mpsc::UnboundedReceiver<Arc<HealthCell>>,
    ) -> HealthWriter<impl Fn(&SubscriptionUid) -> bool + use<>> {
        let index = Arc::clone(&self.index);
        HealthWriter {
            nats: self.nats.clone(),
            exists: move |subscription: &SubscriptionUid| index.subscription(subscription).is_some(),
            clock: Arc::clone(&self.clock),
            incarnation: self.incarnation.clone(),
            changed,
            complaints: Seldom::default(),
        }
    }

    fn observer(&self, ready: watch::Sender<NotReady>) -> Observer {
        Observer {
            index: Arc::clone(&self.index),
            liveness: Arc::clone(&self.liveness),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            events: Arc::clone(&self.budgets.events),
            slots: Arc::clone(&self.attempts_room),
            tenants: Arc::clone(&self.tenants),
            ready,
            stop: self.stop.clone(),
        }
    }

    /// Starts the reader of due deliveries and a reader for each Producer.
    fn start_readers(&self, deliverer: Deliverer, connections: Arc<Connections>) -> JoinSet<()> {
        let HeldBudgets { events, due, behind, bytes, max_message } = &self.budgets;
        let (acks, sending) = Acks::new(self.nats.client.clone());
        let deliverer = Arc::new(deliverer);
        let catch_up = catch_up::work::Parts {
            nats: self.nats.clone(),
            positions: Arc::clone(&self.positions),
            slots: Arc::clone(&self.slots),
            deliverer: Arc::clone(&deliverer),
            connections: Arc::clone(&connections),
            budget: behind.clone(),
            blocks: Blocks::new(*bytes / BLOCKS_SHARE, *max_message as usize),
            turns: Turns::new(self.settings.limits.catching_up),
            tracker: self.tracker.clone(),
        };
        let reader = Reader {
            nats: self.nats.clone(),
            connections,
            deliverer,
            budget: Arc::clone(events),
            read_ahead: Arc::clone(&self.queues.read_ahead),
            acks,
            tracker: self.tracker.clone(),
            max_message: *max_message,
        };
        let due_reader = Reader { budget: Arc::clone(due), ..reader.clone() };
        let mut tasks = JoinSet::new();
        tasks.spawn(sending);
        let stream = self.nats.names.stream(PARKED_STREAM).into_owned();
        let source = Source::Due { stream, consumer: DUE_CONSUMER };
        tasks.spawn(due_reader.run(source, self.stop.clone()));
        tasks.spawn(readers::run(reader, self.index.serving(), self.stop.clone()));
        tasks.spawn(catch_up::owner::run(Arc::new(catch_up), self.stop.clone()));
        tasks
    }
}

/// A dispatcher at work.
struct Running {
    shared: Shared,
    /// Tasks that never end before `stop`. If one of them ends, it has panicked, and the dispatcher must not go on
    /// without it.
    vital: JoinSet<()>,
    /// The readers and the task that sends acks, which end only after `stop`.
    readers: JoinSet<()>,
    writing: JoinHandle<()>,
    /// Dropped to have the counts written a last time.
    stop_writing: oneshot::Sender<()>,
}

impl Running {
    async fn start(
        settings: Settings,
        sealing: SealingKeys,
        (sender, egress): (Sender, EgressFile),
        metrics: Arc<Metrics>,
        ready: watch::Sender<NotReady>,
    ) -> anyhow::Result<Self> {
        let incarnation = format!("{:016x}", rand::random::<u64>());
        let name = format!("hookwright-dispatcher-{incarnation}");
        let nats = nats::connect(&settings.nats, &name).await?;
        let control = nats::connect(&settings.nats, &format!("{name}-control")).await?;
        let connections = Connections::open(settings.nats.clone(), format!("{name}-events")).await?;
        parked_stream::wait_for(&nats, &ready).await;
        let budget = settings.parking.budget.get();
        let (shared, changed) = Shared::new(settings, (control, nats), incarnation, egress.in_force(), metrics)?;
        let mut vital = JoinSet::new();
        let unusable = shared.metrics.egress_file_unusable.clone();
        vital.spawn(async {
            egress.follow(unusable).await;
        });
        shared.spawn_background(sealing, &mut vital);
        shared.disabled.loaded().await;
        let (gauge, parked_budget) = ParkedBudgetGauge::new(shared.nats.clone(), Arc::clone(&shared.metrics), budget);
        vital.spawn(sender.clone().keep());
        let deliverer = shared.deliverer(sender, parked_budget);
        vital.spawn(Arc::clone(&connections).keep());
        let readers = shared.start_readers(deliverer, connections);
        vital.spawn(async {
            gauge.run().await;
        });
        vital.spawn(shared.renewer().run());
        vital.spawn(shared.observer(ready).run());
        let (stop_writing, stopped) = oneshot::channel::<()>();
        let writing = tokio::spawn(shared.health_writer(changed).run(async { drop(stopped.await) }));
        Ok(Self { shared, vital, readers, writing, stop_writing })
    }

    /// Stops pulling, parks deliveries that wait for their turn, and finishes attempts under way. Then writes the
    /// counts and removes the lease.
    async fn stop(mut self) {
        let deadline = Instant::now() + self.shared.settings.shutdown_grace;
        info!(held = self.shared.tracker.len(), "stopping");
        self.shared.stop.cancel();
        self.shared.queues.close();
        // The readers end first, because messages that a pull has brought in are held, too. The task that sends acks
        // ends after the last ack.
        let drained = async {
            while self.readers.join_next().await.is_some() {}
            self.shared.tracker.close();
            self.shared.tracker.wait().await;
        };
        if timeout_at(deadline, drained).await.is_err() {
            warn!(
                held = self.shared.tracker.len(),
                "stopped before all held messages were settled; they come again at another dispatcher"
            );
        }
        drop(self.stop_writing);
        if timeout_at(deadline + FAREWELL_TIMEOUT, self.writing).await.is_err() {
            warn!("stopped before all counts were written");
        }
        // No renewal may follow the removal of the lease.
        self.vital.shutdown().await;
        let farewell = async {
            self.shared.violations.finish().await;
            self.shared.dead_letters.flush().await;
            self.shared.slots.leave().await;
            Renewer::leave(&self.shared.control, &self.shared.incarnation).await;
            // Sends the last acks: without them the events come again.
            if let Err(error) = self.shared.nats.client.flush().await {
                warn!(error = chain(&error), "can't send the last acks to NATS");
            }
        };
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
    }
}
