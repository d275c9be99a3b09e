//! The controllers of the three kinds: what wakes a reconcile, and what follows its result.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use hookwright_crds::{EventSchema, FINALIZER, Producer, Subscription};
use hookwright_runtime::logging;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tracing::warn;

use crate::cache::failures::{Work, jittered};
use crate::context::Context;
use crate::kubernetes::answer::Meaning;
use crate::lenient::Lenient;
use crate::metrics::Reconcile;
use crate::named::{Named, about};
use crate::reconcile::deletion;
use crate::reconcile::error::ReconcileError;
use crate::reconcile::panics;
use crate::reconcile::told::{self, Failed};
use crate::reconcile::triggers::{self, Triggered};
use crate::refusal::Refusal;
use crate::{event_schema, producer, subscription};

/// How many objects of one kind are reconciled at the same time.
const CONCURRENCY: u16 = 64;

/// How soon an object is looked at again that has changed while it was worked on.
const LOOK_ANEW: Duration = Duration::from_secs(2);

/// A kind of object that the operator reconciles.
trait Reconciled:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Serialize
    + DeserializeOwned
    + Debug
    + Send
    + Sync
    + 'static
{
    fn reconcile(object: Arc<Self>, ctx: &Context) -> impl Future<Output = Result<Action, ReconcileError>> + Send;
    fn cleanup(object: &Self, ctx: &Context) -> impl Future<Output = Result<(), ReconcileError>> + Send;
    /// Shows in the status why a reconcile ended without a result.
    fn tell(
        object: &Arc<Self>,
        failure: Refusal,
        ctx: &Context,
    ) -> impl Future<Output = Result<(), ReconcileError>> + Send;
}

impl Reconciled for Producer {
    fn reconcile(object: Arc<Self>, ctx: &Context) -> impl Future<Output = Result<Action, ReconcileError>> + Send {
        producer::reconcile(object, ctx)
    }

    fn cleanup(object: &Self, ctx: &Context) -> impl Future<Output = Result<(), ReconcileError>> + Send {
        producer::cleanup::cleanup(object, ctx)
    }

    fn tell(
        object: &Arc<Self>,
        failure: Refusal,
        ctx: &Context,
    ) -> impl Future<Output = Result<(), ReconcileError>> + Send {
        producer::tell(object, failure, ctx)
    }
}

impl Reconciled for Subscription {
    fn reconcile(object: Arc<Self>, ctx: &Context) -> impl Future<Output = Result<Action, ReconcileError>> + Send {
        subscription::reconcile(object, ctx)
    }

    fn cleanup(object: &Self, ctx: &Context) -> impl Future<Output = Result<(), ReconcileError>> + Send {
        subscription::cleanup::cleanup(object, ctx)
    }

    fn tell(
        object: &Arc<Self>,
        failure: Refusal,
        ctx: &Context,
    ) -> impl Future<Output = Result<(), ReconcileError>> + Send {
        subscription::tell(object, failure, ctx)
    }
}

impl Reconciled for EventSchema {
    fn reconcile(object: Arc<Self>, ctx: &Context) -> impl Future<Output = Result<Action, ReconcileError>> + Send {
        event_schema::reconcile(object, ctx)
    }

    fn cleanup(object: &Self, ctx: &Context) -> impl Future<Output = Result<(), ReconcileError>> + Send {
        event_schema::cleanup::cleanup(object, ctx)
    }

    fn tell(
        object: &Arc<Self>,
        failure: Refusal,
        ctx: &Context,
    ) -> impl Future<Output = Result<(), ReconcileError>> + Send {
        event_schema::tell(object, failure, ctx)
    }
}

/// What a controller gets to know of a failure.
type Boxed = Box<Failed>;

/// The controllers of all kinds before they run.
pub(crate) struct Controllers {
    pub(crate) producers: Controller<Producer>,
    pub(crate) subscriptions: Controller<Subscription>,
    pub(crate) schemas: Controller<EventSchema>,
}

/// Runs the controllers until the process is asked to stop; running reconciles end first.
pub(crate) async fn run(
    ctx: Arc<Context>,
    controllers: Controllers,
    triggered: Triggered,
    connects: watch::Receiver<u64>,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    tokio::join!(
        run_one(&ctx, controllers.producers, triggered.producers, connects.clone(), stop.clone()),
        run_one(&ctx, controllers.subscriptions, triggered.subscriptions, connects.clone(), stop.clone()),
        run_one(&ctx, controllers.schemas, triggered.schemas, connects, stop),
    );
}

/// Runs the controller of one kind. Each connection to NATS reconciles all objects.
async fn run_one<K: Reconciled>(
    ctx: &Arc<Context>,
    controller: Controller<K>,
    triggered: UnboundedReceiver<ObjectRef<K>>,
    connects: watch::Receiver<u64>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let results = controller
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .reconcile_on(triggers::stream(triggered))
        .reconcile_all_on(each(connects))
        .graceful_shutdown_on(stop)
        .run(reconcile::<K>, failed, ctx.clone());
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        report::<K>(&result, ctx);
    }
}

/// Yields at each connection to NATS.
fn each(connects: watch::Receiver<u64>) -> impl Stream<Item = ()> + Send + 'static {
    futures::stream::unfold(connects, |mut connects| async { connects.changed().await.ok().map(|()| ((), connects)) })
}

/// Logs and counts the result of a reconcile.
fn report<K: Reconciled>(
    result: &Result<(ObjectRef<K>, Action), controller::Error<Boxed, watcher::Error>>,
    ctx: &Context,
) {
    let kind = K::kind(&()).into_owned();
    let named = |namespace: Option<&String>, name: &str| Named::of::<K>(namespace.map(String::as_str), Some(name));
    match result {
        // The object was deleted while it waited.
        Err(controller::Error::ObjectNotFound(object)) => {
            return ctx.failures.gone(&Work::of(&kind, object.namespace.as_deref(), Some(&object.name)));
        }
        Err(controller::Error::ReconcilerFailed(error, object)) => {
            let (named, error) = (named(object.namespace.as_ref(), &object.name), logging::chain(error));
            // While NATS is away every object fails alike. `nats::system` logs that once.
            if ctx.js.nats().is_err() {
                about!(debug, named, error, "a reconcile failed");
            } else {
                about!(warn, named, error, "a reconcile failed");
            }
        }
        Err(error) => warn!(kind, error = logging::chain(error), "the controller failed"),
        Ok((object, _)) => about!(debug, named(object.namespace.as_ref(), &object.name), "reconciled"),
    }
    let result = if result.is_ok() { "ok" } else { "error" };
    ctx.metrics.reconciles.get_or_create(&Reconcile { kind, result }).inc();
}

/// Reconciles or cleans up, and adds or removes the finalizer.
async fn reconcile<K: Reconciled>(object: Arc<K>, ctx: Arc<Context>) -> Result<Action, Boxed> {
    let api: Api<Lenient<K>> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    // The answers to the patches of the finalizer are read as leniently as the watch.
    let patched = Arc::new(Lenient { meta: object.meta().clone(), object: None });
    let result = finalizer(&api, FINALIZER, patched, async |event| match event {
        Event::Apply(_) => apply(object.clone(), &ctx).await,
        Event::Cleanup(_) => panics::caught(K::cleanup(&object, &ctx)).await.map(|()| Action::await_change()),
    });
    let work = Work::reconcile(&*object);
    match result.await {
        Ok(action) => {
            if object.meta().deletion_timestamp.is_some() {
                ctx.failures.gone(&work);
            } else {
                ctx.failures.succeeded(&work);
            }
            Ok(action)
        }
        Err(failed) => match told::means(&failed) {
            Some(Meaning::Gone) => {
                ctx.failures.gone(&work);
                Ok(Action::await_change())
            }
            // The watch brings what is newer; this is in case it doesn't.
            Some(Meaning::Changed) if ctx.failures.is_usual_change(&work) => Ok(Action::requeue(jittered(LOOK_ANEW))),
            _ => {
                told::tell(&*object, &work, &failed, &ctx.failures, &ctx.status.recorder).await;
                Err(Box::new(failed))
            }
        },
    }
}

/// Reconciles. A panic is caught, and shown in the object's status.
async fn apply<K: Reconciled>(object: Arc<K>, ctx: &Context) -> Result<Action, ReconcileError> {
    let result = panics::caught(K::reconcile(object.clone(), ctx)).await;
    if let Err(error @ ReconcileError::Panicked(_)) = &result {
        panics::caught(K::tell(&object, error.shown(), ctx)).await?;
    }
    result
}

/// Says when to try again. An object that is being deleted is looked at again as soon as it has waited long enough for
/// NATS.
fn failed<K: Resource<DynamicType = ()>>(object: Arc<K>, _: &Boxed, ctx: Arc<Context>) -> Action {
    let wait = ctx.failures.failed(&Work::reconcile(&*object));
    Action::requeue(match deletion::remaining(&*object, ctx.settings.finalizer_timeout) {
        Some(remaining) if !remaining.is_zero() => wait.min(remaining + Duration::from_millis(100)),
        _ => wait,
    })
}
