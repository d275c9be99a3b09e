//! Puts the parts together.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use hookwright_core::nats::names::{
    DISABLED_KEYS, HEALTH_BUCKET, LEASES_BUCKET, STATE_BUCKET, TEST_KEYS, VIOLATIONS_KEYS,
};
use hookwright_core::record::seal::SealingKey;
use hookwright_crds::{EventSchema, Producer, Subscription};
use hookwright_runtime::mirror::{Change, Mirror};
use hookwright_runtime::nats;
use hookwright_runtime::{admin, shutdown};
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tracing::info;

use crate::background::{checkpoint, namespaces, overdue, stream_numbers, sweep};
use crate::cache::kind::{Kind, watched};
use crate::cache::namespaces::Namespaces;
use crate::context::Context;
use crate::controllers::{self, Controllers};
use crate::health::{correct, fold, writer};
use crate::metrics::Metrics;
use crate::nats::jetstream::JetStream;
use crate::nats::system;
use crate::readiness::{Part, Readiness};
use crate::reconcile::triggers::Triggers;
use crate::settings::Settings;
use crate::status::write::{RECONCILER, StatusWriter};
use crate::subscription::test_delivery;

/// How long the controllers wait for the first connection to NATS.
const WAIT_FOR_NATS: Duration = Duration::from_secs(5);
/// How long running reconciles may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the operator until it is asked to stop; with `check_config`, only reads what it is told.
pub async fn run(settings: Settings, check_config: bool) -> anyhow::Result<()> {
    let key = settings.sealing.load()?;
    if check_config {
        info!("the settings are valid");
        return Ok(());
    }
    // An error means that a provider is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = kubernetes().await.context("no access to Kubernetes")?;
    let (producer_controller, producers) = watched::<Producer>(client.clone());
    let (subscription_controller, subscriptions) = watched::<Subscription>(client.clone());
    let (schema_controller, schemas) = watched::<EventSchema>(client.clone());
    let (triggers, triggered) = Triggers::new();
    let (namespaces, namespace_writer) = Namespaces::new();
    let ctx = context(settings, key, client, (producers, subscriptions, schemas), namespaces, triggers);
    let readiness = Arc::new(Readiness::new());
    let (connected, connects) = watch::channel(0);
    let mut registry = Registry::with_prefix("hookwright");
    let leases = ctx.leases.clone();
    ctx.metrics.register(&mut registry, ctx.producers.store.clone(), ctx.subscriptions.store.clone(), leases);

    let stop = async { drop(shutdown::requested().await) }.boxed().shared();
    let work = async {
        // Without NATS there is little to do but to let deletions go in the end; so it may be waited for a while.
        let mut first = connects.clone();
        let _ = tokio::time::timeout(WAIT_FOR_NATS, first.changed()).await;
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
        result = with_nats(ctx.clone(), &readiness, connected) => result,
        never = listed(&ctx, &readiness) => match never {},
        never = namespaces::watch(&ctx, namespace_writer, &readiness) => match never {},
        () = ctx.triggers.follow(&ctx.leases, &ctx.producers) => Ok(()),
        () = stop.clone().then(|()| tokio::time::sleep(GRACE)) => Ok(()),
        () = work => {
            info!("stopped");
            Ok(())
        }
    }
}

/// Access as the environment gives it. The API server names writes that have no field manager by the user agent.
async fn kubernetes() -> anyhow::Result<Client> {
    let mut config = Config::infer().await?;
    config.headers.push((USER_AGENT, HeaderValue::from_static(RECONCILER)));
    Ok(Client::try_from(config)?)
}

/// All that needs NATS, from the first connection on.
async fn with_nats(ctx: Arc<Context>, readiness: &Readiness, connected: watch::Sender<u64>) -> anyhow::Result<()> {
    let nats = nats::connect(&ctx.settings.nats, "hookwright-operator").await?;
    readiness.there(Part::Nats);
    let reconnects = nats.connected.clone();
    ctx.js.connected(nats.clone());
    let leases = Mirror::new(nats.clone(), LEASES_BUCKET, ">").run(|change| {
        let loaded = matches!(change, Change::Loaded { .. });
        ctx.leases.apply(change, ctx.js.epoch());
        if loaded {
            readiness.there(Part::Leases);
        }
    });
    let counts = Mirror::new(nats.clone(), HEALTH_BUCKET, ">").run(|change| {
        let loaded = matches!(change, Change::Loaded { .. });
        ctx.health.apply_counts(change);
        if loaded {
            readiness.there(Part::Health);
        }
    });
    let counted = Mirror::new(nats.clone(), STATE_BUCKET, VIOLATIONS_KEYS);
    let counted = counted.run(|change| {
        // Dispatchers write a Producer's count at most every 10 s.
        let changed = ctx.schema_violations.apply(change);
        if let Some(producer) = changed.and_then(|uid| ctx.producers.find(uid.as_str())) {
            ctx.triggers.producer_soon(producer);
        }
    });
    let tested = Mirror::new(nats.clone(), STATE_BUCKET, TEST_KEYS);
    let tested = tested.run(|change| test_delivery::answered(&ctx, change));
    let disabled = Mirror::new(nats, STATE_BUCKET, DISABLED_KEYS).run(|change| ctx.health.apply_disabled(change));
    let forward = async {
        let mut reconnects = reconnects.clone();
        loop {
            connected.send_replace(*reconnects.borrow_and_update());
            if reconnects.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        never = leases => match never {},
        never = counts => match never {},
        never = disabled => match never {},
        never = counted => match never {},
        never = tested => match never {},
        never = forward => never,
        never = system::keep(&ctx.js, ctx.settings.system_streams, reconnects.clone(), readiness) => match never {},
        never = sweep::keep(ctx.clone(), reconnects.clone(), readiness) => match never {},
        never = checkpoint::keep(ctx.clone()) => match never {},
        never = overdue::patrol(ctx.clone()) => match never {},
        never = writer::write_all(ctx.clone()) => match never {},
        never = fold::fold_all(ctx.clone()) => match never {},
        never = correct::correct_all(ctx.clone()) => match never {},
        never = stream_numbers::grant(&ctx) => match never {},
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

fn context(
    settings: Settings,
    key: SealingKey,
    client: Client,
    (producers, subscriptions, schemas): (Kind<Producer>, Kind<Subscription>, Kind<EventSchema>),
    namespaces: Namespaces,
    triggers: Triggers,
) -> Arc<Context> {
    let metrics = Metrics::default();
    Arc::new(Context {
        settings,
        key,
        status: StatusWriter::new(client.clone(), metrics.status_writes.clone()),
        client,
        js: JetStream::default(),
        leases: Arc::default(),
        health: Default::default(),
        producers,
        subscriptions,
        schemas,
        namespaces,
        producer_states: Default::default(),
        settled_schemas: Default::default(),
        schema_checks: Default::default(),
        schema_violations: Default::default(),
        stream_incidents: Default::default(),
        stream_numbers: Default::default(),
        triggers,
        failures: Default::default(),
        metrics,
    })
}
