//! The controllers: what wakes a reconcile, and what becomes of its result.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryFuture};
use hookwright_crds::{EventSchema, FINALIZER, Producer, Subscription};
use hookwright_runtime::logging;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::context::Context;
use crate::event_schema::{self, EventSchemaError};
use crate::metrics::Reconcile;
use crate::producer::{self, ProducerError};
use crate::reconcile::deletion;
use crate::reconcile::triggers::{self, Triggered};
use crate::subscription::{self, SubscriptionError};

/// Reconciles of one kind at once.
const CONCURRENCY: u16 = 64;

/// A reconcile failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("Producer")]
    Producer(#[source] Box<finalizer::Error<ProducerError>>),
    #[error("Subscription")]
    Subscription(#[source] Box<finalizer::Error<SubscriptionError>>),
    #[error("EventSchema")]
    EventSchema(#[source] Box<finalizer::Error<EventSchemaError>>),
}

/// The controllers of all kinds, not running yet.
pub(crate) struct Controllers {
    pub(crate) producers: Controller<Producer>,
    pub(crate) subscriptions: Controller<Subscription>,
    pub(crate) schemas: Controller<EventSchema>,
}

/// Runs them until the process is asked to stop; running reconciles end first.
pub(crate) async fn run(
    ctx: Arc<Context>,
    controllers: Controllers,
    triggered: Triggered,
    connects: watch::Receiver<u64>,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let config = controller::Config::default().concurrency(CONCURRENCY);
    let producers = controllers
        .producers
        .with_config(config.clone())
        .reconcile_on(triggers::stream(triggered.producers))
        .reconcile_all_on(each(connects.clone()))
        .graceful_shutdown_on(stop.clone())
        .run(reconcile_producer, failed, ctx.clone());
    let schemas = controllers
        .schemas
        .with_config(config.clone())
        .reconcile_on(triggers::stream(triggered.schemas))
        .reconcile_all_on(each(connects.clone()))
        .graceful_shutdown_on(stop.clone())
        .run(reconcile_schema, failed, ctx.clone());
    let subscriptions = controllers
        .subscriptions
        .with_config(config)
        .reconcile_on(triggers::stream(triggered.subscriptions))
        .reconcile_all_on(each(connects))
        .graceful_shutdown_on(stop)
        .run(reconcile_subscription, failed, ctx.clone());
    tokio::join!(
        report("Producer", producers, &ctx),
        report("Subscription", subscriptions, &ctx),
        report("EventSchema", schemas, &ctx)
    );
}

/// Yields at each connection to NATS.
fn each(connects: watch::Receiver<u64>) -> impl Stream<Item = ()> + Send + 'static {
    futures::stream::unfold(connects, |mut connects| async { connects.changed().await.ok().map(|()| ((), connects)) })
}

async fn report<K: Resource<DynamicType = ()>>(
    kind: &'static str,
    results: impl Stream<Item = Result<(ObjectRef<K>, Action), controller::Error<ReconcileError, watcher::Error>>>,
    ctx: &Context,
) {
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        match &result {
            // Deleted while it waited.
            Err(controller::Error::ObjectNotFound(_)) => continue,
            Err(controller::Error::ReconcilerFailed(error, object)) => {
                let name = format!("{}/{}", object.namespace.as_deref().unwrap_or_default(), object.name);
                // While NATS is away every object fails alike; that is said once, elsewhere.
                if ctx.js.nats().is_err() {
                    debug!(name, error = logging::chain(error), "a reconcile failed");
                } else {
                    warn!(name, error = logging::chain(error), "a reconcile failed");
                }
            }
            Err(error) => warn!(kind, error = logging::chain(error), "the controller"),
            Ok((object, _)) => debug!(kind, name = object.name, "reconciled"),
        }
        let result = if result.is_ok() { "ok" } else { "error" };
        ctx.metrics.reconciles.get_or_create(&Reconcile { kind, result }).inc();
    }
}

async fn reconcile_producer(producer: Arc<Producer>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let result = with_finalizer(&producer, &ctx, async |event| match event {
        Event::Apply(producer) => producer::reconcile(producer, &ctx).await,
        Event::Cleanup(producer) => producer::cleanup(&producer, &ctx).await.map(|()| Action::await_change()),
    });
    result.await.map_err(|error| ReconcileError::Producer(Box::new(error)))
}

async fn reconcile_subscription(subscription: Arc<Subscription>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let result = with_finalizer(&subscription, &ctx, async |event| match event {
        Event::Apply(subscription) => subscription::reconcile(subscription, &ctx).await,
        Event::Cleanup(subscription) => {
            subscription::cleanup(&subscription, &ctx).await.map(|()| Action::await_change())
        }
    });
    result.await.map_err(|error| ReconcileError::Subscription(Box::new(error)))
}

async fn reconcile_schema(schema: Arc<EventSchema>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let result = with_finalizer(&schema, &ctx, async |event| match event {
        Event::Apply(schema) => event_schema::reconcile(schema, &ctx).await,
        Event::Cleanup(schema) => event_schema::cleanup(&schema, &ctx).await.map(|()| Action::await_change()),
    });
    result.await.map_err(|error| ReconcileError::EventSchema(Box::new(error)))
}

/// Reconciles or cleans up, and sees to the finalizer. An object that has changed or gone meanwhile is no failure: the
/// watch brings the change.
async fn with_finalizer<K, F>(
    object: &Arc<K>,
    ctx: &Context,
    reconcile: impl FnOnce(Event<K>) -> F,
) -> Result<Action, finalizer::Error<F::Error>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
    F: TryFuture<Ok = Action>,
    F::Error: std::error::Error + 'static,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    let result = match finalizer(&api, FINALIZER, object.clone(), reconcile).await {
        Err(finalizer::Error::AddFinalizer(kube::Error::Api(status)))
        | Err(finalizer::Error::RemoveFinalizer(kube::Error::Api(status)))
            if status.is_not_found() || status.is_conflict() || status.is_invalid() =>
        {
            Ok(Action::await_change())
        }
        result => result,
    };
    if result.is_ok() {
        ctx.failures.succeeded(&object.uid().unwrap_or_default());
    }
    result
}

/// When to try again; an object that is being deleted is not kept beyond its patience with NATS.
fn failed<K: Resource>(object: Arc<K>, _: &ReconcileError, ctx: Arc<Context>) -> Action {
    let wait = ctx.failures.failed(&object.uid().unwrap_or_default());
    let patience = deletion::remaining(&*object, ctx.settings.finalizer_timeout);
    Action::requeue(match patience {
        Some(patience) if !patience.is_zero() => wait.min(patience + Duration::from_millis(100)),
        _ => wait,
    })
}
