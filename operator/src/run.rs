//! Constructs the parts of the operator, runs them and stops them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use hookwright_core::nats::names::{
    DISABLED_KEYS, HEALTH_BUCKET, LEASES_BUCKET, POSITIONS_BUCKET, STATE_BUCKET, TEST_KEYS, VIOLATIONS_KEYS,
};
use hookwright_core::seal::SealingKeys;
use hookwright_crds::{EventSchema, Producer, Subscription};
use hookwright_runtime::egress::{EgressFile, InForce};
use hookwright_runtime::mirror::{Change, Mirror};
use hookwright_runtime::nats::{self, Nats, NatsSettings};
use hookwright_runtime::{admin, shutdown};
use kube::Client;
use kube::runtime::events::Recorder;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tracing::info;

use crate::background::account::AccountLimits;
use crate::background::checkpoint::Checkpoints;
use crate::background::egress::{self, Agreement};
use crate::background::overdue::Overdue;
use crate::background::stream_sizes::ListStreams;
use crate::background::tombstones::Tombstones;
use crate::background::{every, fences, namespaces, secrets, services, stream_numbers, sweep};
use crate::cache::kind::{Kind, watched};
use crate::cache::namespaces::Namespaces;
use crate::cache::services::Services;
use crate::cache::stream_numbers::LOOK_EVERY;
use crate::context::Context;
use crate::controllers::{self, Controllers};
use crate::definitions;
use crate::health::correct::Correct;
use crate::health::cursors::Cursors;
use crate::health::disable::Disable;
use crate::health::fold::Fold;
use crate::health::writer;
use crate::installation::Owner;
use crate::kubernetes::limit::Requests;
use crate::kubernetes::{self, RECONCILER};
use crate::metrics::{Metrics, Present};
use crate::nats::jetstream::JetStream;
use crate::nats::system;
use crate::readiness::{Part, Readiness};
use crate::reconcile::triggers::Triggers;
use crate::secrets::SecretReader;
use crate::settings::Settings;
use crate::status::events;
use crate::status::write::StatusWriter;
use crate::subscription::test_delivery;

/// How long the controllers wait for the first connection to NATS, and then for the config.
const WAIT_FOR_NATS: Duration = Duration::from_secs(5);
/// How long running reconciles may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the operator until it is asked to stop. With `check_config`, it only reads the settings and the files that they
/// name.
pub async fn run(settings: Settings, check_config: bool) -> anyhow::Result<()> {
    let (sealing, egress_file) = (settings.sealing.load()?, EgressFile::open(settings.egress_file.as_deref())?);
    if check_config {
        info!("the settings are valid");
        return Ok(());
    }
    let (requests, mut registry) = (Requests::default(), Registry::with_prefix("hookwright"));
    let client = kubernetes::limited(settings.kubernetes, requests.clone()).await?;
    let recorder = Recorder::new(client.clone(), RECONCILER.into());
    let served = || settings.namespaces.clone();
    let (producer_controller, producers) =
        watched::<Producer>(client.clone(), served(), events::unreadable(recorder.clone()));
    let (subscription_controller, subscriptions) =
        watched::<Subscription>(client.clone(), served(), events::unreadable(recorder.clone()));
    let (schema_controller, schemas) =
        watched::<EventSchema>(client.clone(), served(), events::unreadable(recorder.clone()));
    let (triggers, triggered) = Triggers::new();
    let ((namespaces, namespace_writer), (services, service_writer)) = (Namespaces::new(), Services::new());
    let watched = (producers, subscriptions, schemas, namespaces, services);
    let ctx = context(settings, sealing, egress_file.in_force(), client, recorder, watched, triggers);
    let (readiness, (connected, connects)) = (Arc::new(Readiness::new()), watch::channel(0));
    let (leases, read, failures) = (ctx.leases.clone(), ctx.secrets.known.clone(), ctx.failures.clone());
    let present = Present::of(&ctx.producers, &ctx.subscriptions, &ctx.schemas, leases, read, failures);
    ctx.metrics.register(&mut registry, present, &requests);

    let stop = async { drop(shutdown::requested().await) }.boxed().shared();
    let work = async {
        may_reconcile(&ctx, &readiness).await;
        controllers::run(
            ctx.clone(),
            Controllers {
                producers: producer_controller,
                subscriptions: subscription_controller,
                schemas: schema_controller,
            },
            triggered,
            connects,
            stop.clone(),
        )
        .await;
    };
    tokio::select! {
        result = admin::serve(&ctx.settings.http, readiness.watch(), registry) => result.context("the admin endpoint"),
        result = with_nats(&ctx, &readiness, connected) => result,
        older = definitions::keep(&ctx.client, &readiness) => Err(older.into()),
        never = listed(&ctx, &readiness) => match never {},
        never = namespaces::watch(&ctx, namespace_writer, &readiness) => match never {},
        never = services::watch(&ctx, service_writer, &readiness) => match never {},
        never = secrets::follow(&ctx) => match never {},
        never = egress::follow(egress_file, &ctx) => match never {},
        () = ctx.triggers.follow(&ctx.leases, &ctx.producers) => Ok(()),
        () = stop.clone().then(|()| tokio::time::sleep(GRACE)) => Ok(()),
        () = work => {
            info!("stopped");
            Ok(())
        }
    }
}

/// Waits until reconciles can do their work. Without NATS they can do little but let deletions end, so they wait for it for a
/// while only.
async fn may_reconcile(ctx: &Context, readiness: &Readiness) {
    definitions::wait(&ctx.client, readiness).await;
    if tokio::time::timeout(WAIT_FOR_NATS, readiness.until(Part::Nats)).await.is_ok() {
        readiness.until(Part::Installation).await;
        // Before that is known, each record of an operator before this one takes reads.
        let _ = tokio::time::timeout(WAIT_FOR_NATS, readiness.until(Part::Config)).await;
    }
}

/// Does all that needs NATS, from the first connection on. This is the one list of what runs beside the reconciles, and
/// how often.
async fn with_nats(ctx: &Context, readiness: &Readiness, connected: watch::Sender<u64>) -> anyhow::Result<()> {
    let settings = NatsSettings { names: ctx.settings.installation.prefix.clone(), ..ctx.settings.nats.clone() };
    let nats = nats::connect(&settings, "hookwright-operator").await?;
    readiness.there(Part::Nats);
    let reconnects = nats.connected.clone();
    // All else writes through the context's connection, which is set only once the installation is known.
    let js = JetStream::default();
    js.connected(nats.clone());
    let mut owner = Owner::new(js, ctx.client.clone(), &ctx.settings, ctx.identities.clone());
    readiness.until(Part::Definitions).await;
    owner.claim(readiness, &ctx.metrics).await;
    ctx.js.connected(nats.clone());
    let seconds = Duration::from_secs;
    tokio::select! {
        () = nats.ended() => anyhow::bail!("the client of NATS has panicked"),
        foreign = owner.keep(reconnects.clone()) => Err(foreign.into()),
        // Until it has succeeded.
        never = fences::begin(ctx, readiness) => match never {},
        never = mirrors(ctx, &nats, readiness) => match never {},
        never = forward(reconnects.clone(), connected) => match never {},
        // After each reconnect, and every 5 s.
        never = system::keep(&ctx.js, ctx.settings.system_streams, reconnects.clone(), readiness) => match never {},
        // At the start, after each reconnect, and four times within the grace of what belongs to no object.
        never = sweep::keep(ctx, reconnects, readiness) => match never {},
        // As soon as there is something to write, within the budget of status writes.
        never = writer::write_all(ctx) => match never {},
        never = stream_numbers::grant(ctx) => match never {},
        never = every(seconds(2), Correct::default(), ctx) => match never {},
        never = every(seconds(5), Fold::default(), ctx) => match never {},
        never = every(seconds(5), Agreement::default(), ctx) => match never {},
        never = every(seconds(10), AccountLimits, ctx) => match never {},
        never = every(LOOK_EVERY, Checkpoints::default(), ctx) => match never {},
        never = every(seconds(10), Cursors, ctx) => match never {},
        never = every(seconds(10), Overdue::default(), ctx) => match never {},
        never = every(seconds(10), Disable, ctx) => match never {},
        never = every(seconds(60), Tombstones::default(), ctx) => match never {},
        never = every(seconds(60), ListStreams, ctx) => match never {},
    }
}

/// Mirrors the buckets in which dispatchers report.
async fn mirrors(ctx: &Context, nats: &Nats, readiness: &Readiness) -> Infallible {
    let mirror = |bucket, keys| Mirror::new(nats.clone(), bucket, keys);
    let leases = mirror(LEASES_BUCKET, ">").run(|change| {
        let loaded = matches!(change, Change::Loaded(_));
        ctx.leases.apply(change, ctx.js.epoch());
        if loaded {
            readiness.there(Part::Leases);
        }
    });
    let counts = mirror(HEALTH_BUCKET, ">").run(|change| {
        let loaded = matches!(change, Change::Loaded(_));
        ctx.health.apply_counts(change);
        if loaded {
            readiness.there(Part::Health);
        }
    });
    let disabled = mirror(STATE_BUCKET, DISABLED_KEYS).run(|change| ctx.health.apply_disabled(change));
    let positions = mirror(POSITIONS_BUCKET, ">").run(|change| ctx.health.apply_positions(change));
    let violations = mirror(STATE_BUCKET, VIOLATIONS_KEYS).run(|change| {
        // Dispatchers write a Producer's count at most every 10 s.
        let changed = ctx.schema_violations.apply(change);
        if let Some(producer) = changed.and_then(|uid| ctx.producer(&uid)) {
            ctx.triggers.producer_soon(producer);
        }
    });
    let tests = mirror(STATE_BUCKET, TEST_KEYS).run(|change| test_delivery::answered(ctx, change));
    tokio::select! {
        never = leases => never,
        never = counts => never,
        never = disabled => never,
        never = positions => never,
        never = violations => never,
        never = tests => never,
    }
}

/// Tells the controllers of each connection to NATS.
async fn forward(mut connects: watch::Receiver<u64>, connected: watch::Sender<u64>) -> Infallible {
    loop {
        connected.send_replace(*connects.borrow_and_update());
        if connects.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Notes when the first list of each kind is complete.
async fn listed(ctx: &Context, readiness: &Readiness) -> Infallible {
    ctx.producers.listed.wait().await;
    readiness.there(Part::Producers);
    ctx.subscriptions.listed.wait().await;
    readiness.there(Part::Subscriptions);
    ctx.schemas.listed.wait().await;
    readiness.there(Part::EventSchemas);
    std::future::pending().await
}

/// What the watches bring.
type Watched = (Kind<Producer>, Kind<Subscription>, Kind<EventSchema>, Namespaces, Services);

fn context(
    settings: Settings,
    sealing: SealingKeys,
    egress: InForce,
    client: Client,
    recorder: Recorder,
    (producers, subscriptions, schemas, namespaces, services): Watched,
    triggers: Triggers,
) -> Arc<Context> {
    let metrics = Metrics::default();
    Arc::new(Context {
        settings,
        egress,
        sealing,
        status: StatusWriter::new(client.clone(), recorder, metrics.status_writes.clone()),
        secrets: SecretReader::new(client.clone()),
        client,
        js: JetStream::default(),
        leases: Arc::default(),
        fences: Default::default(),
        health: Default::default(),
        producers,
        subscriptions,
        schemas,
        namespaces,
        services,
        producer_states: Default::default(),
        settled_schemas: Default::default(),
        schema_checks: Default::default(),
        schema_violations: Default::default(),
        stream_heads: Default::default(),
        stream_incidents: Default::default(),
        stream_numbers: Default::default(),
        stream_sizes: Default::default(),
        orphans: Default::default(),
        overcommitted: Default::default(),
        identities: Default::default(),
        let_go: Default::default(),
        triggers,
        failures: Default::default(),
        metrics,
    })
}
