//! `release`: lets go of all objects before Hookwright is uninstalled. It stops the operator and removes the operator's
//! finalizers, which nobody would remove later: then an object that is deleted goes, and its namespace too. Objects and
//! streams stay. Objects that another installation in the cluster may serve are left to it.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use hookwright_crds::{EventSchema, FINALIZER, Producer, Subscription};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::cache::references::full_name;
use crate::lenient::Metadata;
use crate::served::ServedNamespaces;

/// How long the operator may take to stop. On a node that is gone its Pod never does, and the operator isn't running.
const STOPPED: Duration = Duration::from_secs(60);
/// The time between two looks.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the objects of a kind are listed. Those that were changed meanwhile have their finalizer still.
const ROUNDS: usize = 30;
/// How many objects are changed at the same time.
const AT_ONCE: usize = 16;
/// The labels of the operator's Deployment, whatever the installation's name is.
const OPERATORS: &str = "app.kubernetes.io/name=hookwright,app.kubernetes.io/component=operator";

/// The operator to stop, and the objects to let go of.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The namespace of the operator.
    #[arg(long)]
    namespace: String,
    /// The Deployment of the operator.
    #[arg(long)]
    deployment: String,
    /// The namespaces that the operator serves, with commas between them; by default all. Objects elsewhere are let go of,
    /// too, unless there is another installation: the operator may have served more namespaces before.
    #[arg(long, value_delimiter = ',')]
    namespaces: Vec<String>,
}

/// Stops the operator, then removes its finalizers from all objects.
///
/// # Errors
/// If the API server refuses, or an object is changed all the time.
pub async fn run(arguments: Arguments, client: Client) -> anyhow::Result<()> {
    stop(&arguments, &client).await?;
    let namespaces = &to_release(arguments, &client).await?;
    remove_finalizers::<Subscription>(&client, namespaces).await?;
    remove_finalizers::<EventSchema>(&client, namespaces).await?;
    remove_finalizers::<Producer>(&client, namespaces).await
}

/// Scales the operator to 0 and waits until its Pods are gone: an operator that still runs would add its finalizers again.
async fn stop(arguments: &Arguments, client: &Client) -> anyhow::Result<()> {
    let Arguments { namespace, deployment, .. } = arguments;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    let scale = match deployments.patch_scale(deployment, &PatchParams::default(), &none).await {
        Ok(scale) => scale,
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("can't scale {namespace}/{deployment} to 0")),
    };
    let selector = scale.status.and_then(|status| status.selector).context("the Deployment has no selector")?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let deadline = Instant::now() + STOPPED;
    loop {
        let left = pods.list_metadata(&ListParams::default().labels(&selector)).await.context("can't list Pods")?;
        let Some(pod) = left.items.first() else { break };
        if Instant::now() > deadline {
            warn!(pod = pod.name_any(), "the operator's Pod is still there; going on without it");
            break;
        }
        sleep(AGAIN).await;
    }
    info!("the operator is stopped");
    Ok(())
}

/// Returns the namespaces in which to let go of objects.
async fn to_release(arguments: Arguments, client: &Client) -> anyhow::Result<ServedNamespaces> {
    if arguments.namespaces.is_empty() {
        return Ok(ServedNamespaces::default());
    }
    let own = full_name(Some(&arguments.namespace), Some(&arguments.deployment));
    let deployments = Api::<Metadata<Deployment>>::all(client.clone());
    let operators = deployments.list(&ListParams::default().labels(OPERATORS)).await;
    let operators = operators.context("can't list the Deployments of operators")?.items;
    let mut names = operators.iter().map(|found| full_name(found.namespace().as_deref(), Some(&found.name_any())));
    let Some(other) = names.find(|name| *name != own) else { return Ok(ServedNamespaces::default()) };
    warn!(other, served = arguments.namespaces.join(","), "objects in other namespaces are left to another operator");
    Ok(arguments.namespaces.into_iter().collect())
}

async fn remove_finalizers<K>(client: &Client, namespaces: &ServedNamespaces) -> anyhow::Result<()>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let (all, kind) = (Api::<Metadata<K>>::all(client.clone()), K::kind(&()));
    let mut removed = 0;
    for _ in 0..ROUNDS {
        let objects = match all.list(&ListParams::default()).await {
            Ok(objects) => objects.items,
            // The kind itself is not installed.
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("can't list objects of kind {kind}")),
        };
        let served =
            objects.iter().filter(|object| namespaces.include(object.namespace().as_deref().unwrap_or_default()));
        let held: Vec<_> = served.filter_map(|object| Some((object, finalizer_of(object)?))).collect();
        if held.is_empty() {
            info!(%kind, removed, "no object has the operator's finalizer");
            return Ok(());
        }
        let patches = held.into_iter().map(|(object, index)| remove_finalizer::<K>(client, object, index));
        let done: Vec<bool> = stream::iter(patches).buffer_unordered(AT_ONCE).try_collect().await?;
        removed += done.into_iter().filter(|removed| *removed).count();
    }
    bail!("objects of kind {kind} still get the finalizer {FINALIZER}: is an operator running?")
}

fn finalizer_of<K>(object: &Metadata<K>) -> Option<usize> {
    object.meta.finalizers.iter().flatten().position(|name| name == FINALIZER)
}

/// Returns whether the finalizer is removed. If not, the object was changed meanwhile.
async fn remove_finalizer<K>(client: &Client, object: &Metadata<K>, index: usize) -> anyhow::Result<bool>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let (namespace, name) = (object.meta.namespace.as_deref(), object.meta.name.as_deref());
    let api: Api<Metadata<K>> = Api::namespaced(client.clone(), namespace.unwrap_or_default());
    let path = format!("/metadata/finalizers/{index}");
    let operations = json!([
        { "op": "test", "path": path, "value": FINALIZER },
        { "op": "remove", "path": path },
    ]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(operations)?);
    match api.patch(name.unwrap_or_default(), &PatchParams::default(), &patch).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() || status.is_invalid() => {
            Ok(false)
        }
        Err(error) => {
            Err(error).with_context(|| format!("can't change {} {}", K::kind(&()), full_name(namespace, name)))
        }
    }
}
