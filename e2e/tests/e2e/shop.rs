//! What most tests start from: a namespace with a Producer, a receiver, and Subscriptions to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use async_nats::HeaderMap;
use async_nats::jetstream::consumer;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use hookwright_core::delivery::dead_letter::{DEAD_LETTER_HEADER, DeadLetter};
use hookwright_core::delivery::event_ref::EventRef;
use hookwright_core::delivery::parked::{PARKED_HEADER, ParkedDelivery};
use hookwright_core::delivery::progress::Progress;
use hookwright_core::nats::delivery_id::DeliveryKey;
use hookwright_core::nats::ids::{ProducerUid, SubscriptionUid};
use hookwright_core::nats::names::{CONFIG_BUCKET, DEAD_LETTER_STREAM, dead_delivery, dead_event, parked_due};
use hookwright_core::record::VERSION;
use hookwright_e2e::{
    ControlPlane, Event, Options, Publisher, Received, Receiver, Scratch, Tools, User, World, wait_for,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore, SemaphorePermit};

/// Long enough for anything that should be quick, also on a slow machine that does much else. It is no measure of speed.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// The same for `kubectl`, which deletes or waits.
pub(crate) const TIMEOUT: &str = "--timeout=120s";

/// A namespace to which the shared world's settings give streams and subjects that don't bear its name.
pub(crate) const TENANT: &str = "tenant";

/// A namespace that may have one Subscription in the shared world, and streams of 64Mi.
pub(crate) const FEW: &str = "few";

/// How many EventSchemas a Producer may have in the shared world.
pub(crate) const EVENT_SCHEMAS: usize = 20;

/// How many worlds of one test each may be there at the same time, beside the shared one.
const OWN_WORLDS: usize = 2;

static MACHINE: RwLock<()> = RwLock::const_new(());
static OWN: Semaphore = Semaphore::const_new(OWN_WORLDS);
static WORLD: OnceCell<World> = OnceCell::const_new();
static PLANE: OnceCell<(ControlPlane, Scratch)> = OnceCell::const_new();

/// The machine for oneself: nothing else runs meanwhile.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// What keeps a test that needs the machine for itself waiting.
pub(crate) type Beside = (SemaphorePermit<'static>, RwLockReadGuard<'static, ()>);

/// For a test with a world of its own that others may run beside: it stops or changes what they share, and measures
/// nothing.
pub(crate) async fn beside() -> Beside {
    // In this order: what waits for its turn keeps nobody from being alone.
    let turn = OWN.acquire().await.unwrap();
    (turn, MACHINE.read().await)
}

/// An API server without an operator, which tests of nothing else share.
pub(crate) async fn plane() -> (&'static ControlPlane, RwLockReadGuard<'static, ()>) {
    let machine = MACHINE.read().await;
    let start = async || {
        let scratch = Scratch::new()?;
        let plane = ControlPlane::start(&Tools::locate().await?, &scratch.path().join("kube")).await?;
        anyhow::Ok((plane, scratch))
    };
    (&PLANE.get_or_try_init(start).await.unwrap().0, machine)
}

/// A test in the world that tests share, which is never dropped: when the test ends, the rights in NATS were enough.
pub(crate) struct Sharing {
    _machine: RwLockReadGuard<'static, ()>,
}

impl Drop for Sharing {
    fn drop(&mut self) {
        if let Some(world) = WORLD.get() {
            world.check_rights();
        }
    }
}

/// A namespace in the world that tests share.
pub(crate) async fn shared() -> (Shop<'static>, Sharing) {
    let sharing = Sharing { _machine: MACHINE.read().await };
    let tenancy = json!({ TENANT: { "subjects": ["legacy.orders.>"], "streams": ["LEGACY", "tenant-*"] } });
    let quotas = json!({ "namespaces": { FEW: { "subscriptions": 1, "streamBytes": "64Mi" } } });
    let limits = json!({ "eventSchemasPerProducer": EVENT_SCHEMAS });
    let operator = json!({ "secretRefresh": "4s", "limits": limits, "tenancy": tenancy, "quotas": quotas });
    let start = || World::start(Options { dispatchers: 2, operator, ..Options::default() });
    let world = WORLD.get_or_try_init(start).await.unwrap();
    (Shop::open(world, json!({})).await, sharing)
}

/// A namespace with the Producer `orders`, which takes `<namespace>.events.>`.
pub(crate) struct Shop<'w> {
    pub(crate) world: &'w World,
    pub(crate) namespace: String,
    pub(crate) receiver: Receiver,
    pub(crate) publisher: Publisher,
}

impl<'w> Shop<'w> {
    /// `spec` is laid over the Producer's.
    pub(crate) async fn open(world: &'w World, spec: Value) -> Self {
        let namespace = world.namespace("shop").await.unwrap();
        let publisher = world.nats.publisher().await.unwrap();
        let shop = Self { world, namespace, receiver: Receiver::start().await.unwrap(), publisher };
        shop.produce("orders", "events", spec).await;
        shop
    }

    /// One more Producer, of the subjects `<namespace>.<token>.>`.
    pub(crate) async fn produce(&self, name: &str, token: &str, spec: Value) {
        let mut object = json!({
            "apiVersion": "hookwright.dev/v1alpha1",
            "kind": "Producer",
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": {
                "subjects": [format!("{}.{token}.>", self.namespace)],
                "stream": { "name": format!("{}_{name}", self.namespace) },
                "eventType": { "stripPrefix": format!("{}.{token}.", self.namespace) },
            },
        });
        let replicas = self.world.nats.replicas();
        if replicas > 1 && spec["stream"]["policy"] != "Existing" {
            object["spec"]["stream"]["replicas"] = json!(replicas);
        }
        merge(&mut object["spec"], spec);
        self.world.control_plane.apply_json(&object).await.unwrap();
        self.world.wait_ready(&self.namespace, "producers", name).await.unwrap();
    }

    /// A Subscription of `types`, to the path `/<name>` of the receiver; `spec` is laid over it.
    pub(crate) fn subscription(&self, name: &str, types: &[&str], spec: Value) -> Value {
        let types: Vec<Value> = types.iter().map(|kind| json!({ "type": kind })).collect();
        let mut object = json!({
            "apiVersion": "hookwright.dev/v1alpha1",
            "kind": "Subscription",
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": {
                "producerRef": { "name": "orders" },
                "eventTypes": types,
                "endpoint": { "url": self.receiver.url(&format!("/{name}")) },
            },
        });
        merge(&mut object["spec"], spec);
        object
    }

    /// Applies it, and waits until it is Ready. Returns its uid.
    pub(crate) async fn subscribe(&self, name: &str, types: &[&str], spec: Value) -> String {
        self.world.control_plane.apply_json(&self.subscription(name, types, spec)).await.unwrap();
        let object = self.world.wait_ready(&self.namespace, "subscriptions", name).await.unwrap();
        object["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// A Secret with a signing key that many Subscriptions can share; returns what to lay over their spec.
    pub(crate) async fn shared_key(&self) -> Value {
        let key = format!("--from-literal=secret={KEY}");
        let plane = &self.world.control_plane;
        plane.kubectl(&["create", "secret", "generic", "mine", "-n", &self.namespace, &key]).await.unwrap();
        let label = ["label", "secret", "mine", "-n", &self.namespace, "hookwright.dev/use=signing"];
        plane.kubectl(&label).await.unwrap();
        json!({ "signing": { "keys": [{ "secretKeyRef": { "name": "mine", "key": "secret" } }] } })
    }

    /// Creates many Subscriptions at once, and waits until all of the world are Ready.
    pub(crate) async fn subscribe_all(&self, objects: Vec<Value>) {
        let (start, count) = (Instant::now(), objects.len());
        let client = self.world.control_plane.client().await.unwrap();
        let path = format!("/apis/hookwright.dev/v1alpha1/namespaces/{}/subscriptions", self.namespace);
        let post = |object: Value| {
            let request = http::Request::post(&path).header("content-type", "application/json");
            let request = request.body(object.to_string().into_bytes()).unwrap();
            let client = client.clone();
            async move { client.request::<Value>(request).await.unwrap() }
        };
        stream::iter(objects).map(post).buffer_unordered(16).for_each(async |_| ()).await;
        wait_for("all to be Ready", Duration::from_secs(600), async || {
            let ready = metric(&self.world.operator.metrics().await?, "operator_subscriptions{ready=\"True\"}");
            anyhow::ensure!(ready == count as u64, "{ready} are");
            Ok(())
        })
        .await
        .unwrap();
        println!("{count} Subscriptions were Ready in {:?}", start.elapsed());
    }

    /// A plain JSON event to `<namespace>.events.<kind>`.
    pub(crate) fn event(&self, kind: &str, body: impl Into<String>) -> Event {
        Event::new(format!("{}.events.{kind}", self.namespace), body.into())
    }

    pub(crate) async fn publish(&self, event: &Event) {
        self.publisher.publish(event).await.unwrap();
    }

    /// Publishes many, a hundred at the same time.
    pub(crate) async fn publish_all(&self, events: &[Event]) {
        for some in events.chunks(100) {
            join_all(some.iter().map(|event| self.publish(event))).await;
        }
    }

    /// The uid of the Producer `orders`.
    pub(crate) async fn producer(&self) -> ProducerUid {
        let producer = self.world.control_plane.get(&self.namespace, "producers", "orders").await.unwrap();
        ProducerUid::parse(producer["metadata"]["uid"].as_str().unwrap()).unwrap()
    }

    /// Puts a delivery among those that are due: one that was parked under this revision of the config.
    pub(crate) async fn publish_due(&self, subscription: &SubscriptionUid, revision: u64, progress: Progress) {
        self.publish_all_due(subscription, revision, &progress, 1).await;
    }

    /// The same with many, each of another event.
    pub(crate) async fn publish_all_due(&self, to: &SubscriptionUid, revision: u64, progress: &Progress, n: usize) {
        let (producer, jetstream) = (self.producer().await, self.world.nats.jetstream(User::Admin).await.unwrap());
        stream::iter(0..n)
            .map(|_| {
                let parked = self.parked(to.clone(), producer.clone(), revision, progress.clone());
                let mut headers = HeaderMap::new();
                headers.insert(PARKED_HEADER, serde_json::to_string(&parked).unwrap());
                jetstream.publish_with_headers(parked_due(to), headers, "{}".into())
            })
            .buffered(1000)
            .map(|stored| async { stored.unwrap().await.unwrap() })
            .buffer_unordered(1000)
            .for_each(async |_| ())
            .await;
    }

    fn parked(
        &self,
        subscription: SubscriptionUid,
        producer: ProducerUid,
        revision: u64,
        progress: Progress,
    ) -> ParkedDelivery {
        let event = EventRef {
            stream: format!("{}_orders", self.namespace),
            stream_created: Timestamp::UNIX_EPOCH,
            sequence: rand::random(),
            subject: format!("{}.events.a", self.namespace),
            published: Timestamp::now(),
            event_type: "a".to_owned(),
        };
        let EventRef { ref stream, stream_created, sequence, published: stored, .. } = event;
        let id = DeliveryKey { subscription: &subscription, stream, stream_created, sequence, stored }.id();
        ParkedDelivery { version: VERSION, subscription, producer, id, revision, event, progress }
    }

    /// Waits until the path `/<name>` has had that many requests.
    pub(crate) async fn requests(&self, name: &str, n: usize) -> Vec<Arc<Received>> {
        self.receiver.wait_count(&format!("/{name}"), n, SOON).await.unwrap()
    }

    /// How often each delivery succeeded at a path.
    pub(crate) fn deliveries(&self, path: &str) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for request in self.receiver.requests(path).iter().filter(|request| request.succeeded()) {
            *counts.entry(request.webhook_id().to_owned()).or_default() += 1;
        }
        counts
    }

    /// The shared consumer of the Producer `orders`, as it is now.
    pub(crate) async fn consumer(&self) -> anyhow::Result<consumer::Info> {
        let jetstream = self.world.nats.jetstream(User::Admin).await?;
        let stream = jetstream.get_stream(format!("{}_orders", self.namespace)).await?;
        stream.consumers().try_next().await?.context("no consumer")
    }

    /// Waits until that consumer has nothing that is not acked.
    pub(crate) async fn all_acked(&self, deadline: Duration) {
        wait_for("all events to be acked", deadline, async || {
            let consumer = self.consumer().await?;
            let open = (consumer.num_pending, consumer.num_ack_pending);
            anyhow::ensure!(open == (0, 0), "{open:?} not delivered, not acked");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Waits until the Subscription's status is as `check` wants it.
    pub(crate) async fn status(&self, name: &str, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        let found = self.world.wait_status(&self.namespace, name, what, SOON, check).await.unwrap();
        found["status"].clone()
    }

    /// Waits for a dead letter of the Subscription with this uid.
    pub(crate) async fn dead_letter(&self, uid: &str) -> (DeadLetter, String) {
        self.letter(dead_delivery(&uid.to_owned().try_into().unwrap())).await
    }

    /// Waits for a dead letter of the Producer `name`: an event that is itself at fault.
    pub(crate) async fn dead_event(&self, name: &str) -> (DeadLetter, String) {
        let producer = self.world.control_plane.get(&self.namespace, "producers", name).await.unwrap();
        let uid = producer["metadata"]["uid"].as_str().unwrap().to_owned();
        self.letter(dead_event(&uid.try_into().unwrap())).await
    }

    async fn letter(&self, subject: String) -> (DeadLetter, String) {
        let jetstream = self.world.nats.jetstream(User::Admin).await.unwrap();
        let stream = jetstream.get_stream(DEAD_LETTER_STREAM).await.unwrap();
        let what = format!("a dead letter on {subject}");
        let message = wait_for(&what, SOON, async || Ok(stream.get_last_raw_message_by_subject(&subject).await?));
        let message = message.await.unwrap();
        let letter = message.headers.get(DEAD_LETTER_HEADER).unwrap().as_str();
        (serde_json::from_str(letter).unwrap(), String::from_utf8(message.payload.to_vec()).unwrap())
    }
}

/// Tries up to three times, each time anew: for what a machine that stands still for a moment spoils once, and a fault of
/// Hookwright spoils each time.
pub(crate) async fn once_in_three<T>(what: &str, mut round: impl AsyncFnMut(usize) -> anyhow::Result<T>) -> T {
    for n in 1..=2 {
        match round(n).await {
            Ok(value) => return value,
            Err(error) => println!("{what}: round {n} is spoiled: {error:#}"),
        }
    }
    round(3).await.context(what.to_owned()).unwrap()
}

/// Waits until all dispatchers have loaded the config that there is now. Returns the time of that.
pub(crate) async fn all_loaded(world: &World) -> SystemTime {
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let config = jetstream.get_stream(format!("KV_{CONFIG_BUCKET}")).await.unwrap();
    let last = config.cached_info().state.last_sequence;
    for dispatcher in &world.dispatchers {
        wait_for(&format!("config revision {last}"), SOON, async || {
            let loaded = metric(&dispatcher.metrics().await?, "hookwright_dispatcher_config_revision ");
            anyhow::ensure!(loaded >= last, "{loaded} of {last}");
            Ok(())
        })
        .await
        .unwrap();
    }
    SystemTime::now()
}

/// How many attempts began later than this. The sender says when, so it doesn't matter how late one was received.
pub(crate) fn began_after(requests: &[Arc<Received>], time: SystemTime) -> usize {
    let time = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let began = |request: &Received| request.header("webhook-timestamp").parse::<u64>().unwrap();
    requests.iter().filter(|request| began(request) > time).count()
}

/// 24 bytes and more, as Standard Webhooks has it.
pub(crate) const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr";

/// A JSON merge patch (RFC 7386).
pub(crate) fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                match value {
                    Value::Null => drop(target.remove(&key)),
                    value => merge(target.entry(key).or_insert(Value::Null), value),
                }
            }
        }
        (target, patch) => *target = patch,
    }
}

/// A retry policy that tries again after each of these waits, without jitter.
pub(crate) fn schedule(waits: &[&str]) -> Value {
    json!({ "delivery": { "retry": { "backoff": { "type": "Schedule", "schedule": waits }, "jitterPercent": 0 } } })
}

/// A retry policy that tries again after that wait, without jitter and without an end.
pub(crate) fn fixed(delay: &str) -> Value {
    let backoff = json!({ "type": "Fixed", "delay": delay });
    json!({ "delivery": { "retry": { "maxAttempts": 100, "backoff": backoff, "jitterPercent": 0 } } })
}

/// The sum of the values of the metrics whose line has `name` in it.
pub(crate) fn metric(text: &str, name: &str) -> u64 {
    let values = text.lines().filter(|line| !line.starts_with('#') && line.contains(name));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// The condition of that type.
pub(crate) fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}
