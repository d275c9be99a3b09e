//! Creates Producers and Subscriptions as users do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use futures::{StreamExt, TryStreamExt, stream};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{PARKED_STREAM, parked_at_all, parked_due};
use hookwright_core::sign::hmac::secret_text;
use hookwright_e2e::wait_for;
use kube::Client;
use serde_json::{Value, json};

use super::{ARRIVAL, Lab};

/// A namespace with one Producer.
pub(crate) struct Topic {
    pub(crate) namespace: String,
    pub(crate) stream: String,
    /// The headers of its events.
    pub(crate) headers: HeaderMap,
}

/// An endpoint of the sink.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) number: u32,
    pub(crate) url: String,
}

impl Topic {
    /// The subject of events of this type.
    pub(crate) fn subject(&self, kind: &str) -> String {
        format!("{}.events.{kind}", self.namespace)
    }

    /// The API path of the namespace's objects of this plural.
    fn path(&self, plural: &str) -> String {
        format!("/apis/hookwright.dev/v1alpha1/namespaces/{}/{plural}", self.namespace)
    }

    /// A Subscription that wants one type of events. The fields of `spec` replace those of the default spec.
    pub(crate) fn subscription(&self, kind: &str, endpoint: &Endpoint, spec: &Value) -> Value {
        let mut object = json!({
            "apiVersion": "hookwright.dev/v1alpha1",
            "kind": "Subscription",
            "metadata": { "name": format!("s-{}", endpoint.number), "namespace": self.namespace },
            "spec": {
                "producerRef": { "name": "orders" },
                "eventTypes": [{ "type": kind }],
                "endpoint": { "url": endpoint.url },
                "signing": { "keys": [{ "secretKeyRef": { "name": KEYS, "key": "secret" } }] },
            },
        });
        for (field, value) in spec.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        object
    }
}

/// The suffix of the names of topics' streams.
pub(super) const STREAM: &str = "_orders";
/// The Secret with the key that all Subscriptions sign with.
const KEYS: &str = "bench";
/// How long the operator may take for all objects together.
const OPERATOR_DEADLINE: Duration = Duration::from_secs(300);
/// The most requests to the API server at the same time.
const AT_ONCE: usize = 16;

impl Lab {
    /// Creates a namespace with a Producer and a key to sign with.
    pub(crate) async fn topic(&self) -> Result<Topic> {
        let (plane, namespace) = (&self.world.control_plane, self.world.namespace("bench").await?);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": KEYS, "namespace": namespace, "labels": { "hookwright.dev/use": "signing" } },
            "stringData": { "secret": secret_text(&rand::random()) },
        });
        plane.apply_json(&secret).await?;
        let topic = Topic { stream: format!("{namespace}{STREAM}"), namespace, headers: HeaderMap::new() };
        let producer = json!({
            "apiVersion": "hookwright.dev/v1alpha1", "kind": "Producer",
            "metadata": { "name": "orders", "namespace": topic.namespace },
            "spec": {
                "subjects": [topic.subject(">")],
                "stream": { "name": topic.stream, "deletionPolicy": "Delete" },
                "eventType": { "stripPrefix": topic.subject("") },
            },
        });
        plane.apply_json(&producer).await?;
        self.world.wait_ready(&topic.namespace, "producers", "orders").await?;
        Ok(topic)
    }

    /// Creates Subscriptions and waits until all are Ready. No others may exist.
    pub(crate) async fn subscribe(&self, topic: &Topic, subscriptions: Vec<Value>) -> Result<()> {
        let count = subscriptions.len();
        self.create(topic, subscriptions).await?;
        self.wait_subscribed(count).await
    }

    /// Creates Subscriptions.
    pub(crate) async fn create(&self, topic: &Topic, subscriptions: Vec<Value>) -> Result<()> {
        let client = self.world.control_plane.client().await?;
        let path = topic.path("subscriptions");
        let post = |object: Value| {
            let request = http::Request::post(&path).header("content-type", "application/json");
            request.body(object.to_string().into_bytes())
        };
        send(&client, subscriptions.into_iter().map(post)).await.context("create a Subscription")
    }

    /// Waits until no delivery of this topic is parked.
    pub(crate) async fn nothing_parked(&self, topic: &Topic) -> Result<()> {
        let client = self.world.control_plane.client().await?;
        let request = http::Request::get(topic.path("subscriptions")).body(Vec::new())?;
        let all = client.request::<Value>(request).await?;
        let uids = all["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["uid"].as_str());
        let uids: Vec<SubscriptionUid> = uids.map(|uid| uid.to_owned().try_into()).collect::<Result<_, _>>()?;
        let stream = self.streams.get_stream(PARKED_STREAM).await?;
        wait_for("all parked deliveries to be done", ARRIVAL, async || {
            for subjects in uids.iter().flat_map(|uid| [parked_at_all(uid), parked_due(uid)]) {
                let one = stream.info_with_subjects(&subjects).await?.try_next().await?;
                ensure!(one.is_none(), "{one:?} is parked");
            }
            Ok(())
        })
        .await
    }

    /// Waits until this many Subscriptions are Ready.
    pub(crate) async fn wait_subscribed(&self, count: usize) -> Result<()> {
        wait_for("all Subscriptions to be Ready", OPERATOR_DEADLINE, async || {
            let ready = metric(&self.world.operator.metrics().await?, "operator_subscriptions{ready=\"True\"}");
            ensure!(ready == count as u64, "{ready} of {count} are");
            Ok(())
        })
        .await
    }

    /// Deletes the Producer with its stream and all of its Subscriptions.
    pub(crate) async fn delete(&self, topic: Topic) -> Result<()> {
        let client = self.world.control_plane.client().await?;
        for kind in ["subscriptions", "producers"] {
            let path = topic.path(kind);
            let all = client.request::<Value>(http::Request::get(&path).body(Vec::new())?).await?;
            let names =
                all["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str());
            // The bench deletes many objects at the same time. Kubectl sends only 50 requests a second, and deleting
            // thousands in one request takes the API server longer than the minute that a request may last.
            let delete = |name: &str| http::Request::delete(format!("{path}/{name}")).body(Vec::new());
            send(&client, names.map(delete)).await.with_context(|| format!("delete {kind}"))?;
            wait_for(&format!("no {kind} to be left"), OPERATOR_DEADLINE, async || {
                let one = http::Request::get(format!("{path}?limit=1")).body(Vec::new())?;
                let left = client.request::<Value>(one).await?;
                ensure!(left["items"] == json!([]), "some are");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// Sends the requests, some at the same time.
async fn send(client: &Client, requests: impl Iterator<Item = http::Result<http::Request<Vec<u8>>>>) -> Result<()> {
    let send = |request| async move {
        client.request::<Value>(request?).await?;
        anyhow::Ok(())
    };
    stream::iter(requests).map(send).buffer_unordered(AT_ONCE).try_collect().await
}

/// The sum of a metric's values.
pub(super) fn metric(text: &str, name: &str) -> u64 {
    let values = text.lines().filter(|line| !line.starts_with('#') && line.contains(name));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
