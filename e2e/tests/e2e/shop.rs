//! What most tests start from: a namespace with a Producer, a receiver, and Subscriptions to it.

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::names::{DEAD_LETTER_STREAM, dead_delivery, dead_event};
use hookwright_core::parked::{DEAD_LETTER_HEADER, DeadLetter};
use hookwright_e2e::{Event, Options, Publisher, Received, Receiver, User, World, wait_for};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Long enough for anything that should be quick; a test that needs a bound of its own says so.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A namespace to which the shared world's settings give streams and subjects that don't bear its name.
pub(crate) const TENANT: &str = "tenant";

static MACHINE: RwLock<()> = RwLock::const_new(());
static WORLD: OnceCell<World> = OnceCell::const_new();

/// The machine for oneself: nothing else runs meanwhile.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// A namespace in the world that tests share.
pub(crate) async fn shared() -> (Shop<'static>, RwLockReadGuard<'static, ()>) {
    let machine = MACHINE.read().await;
    let tenancy = json!({ TENANT: { "subjects": ["legacy.orders.>"], "streams": ["LEGACY", "tenant-*"] } });
    let operator = json!({ "secretRefresh": "4s", "tenancy": tenancy });
    let start = || World::start(Options { dispatchers: 2, operator, ..Options::default() });
    let world = WORLD.get_or_try_init(start).await.unwrap();
    (Shop::open(world, json!({})).await, machine)
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

    /// A plain JSON event to `<namespace>.events.<kind>`.
    pub(crate) fn event(&self, kind: &str, body: impl Into<String>) -> Event {
        Event::new(format!("{}.events.{kind}", self.namespace), body.into())
    }

    pub(crate) async fn publish(&self, event: &Event) {
        self.publisher.publish(event).await.unwrap();
    }

    /// Waits until the path `/<name>` has had that many requests.
    pub(crate) async fn requests(&self, name: &str, n: usize) -> Vec<Arc<Received>> {
        self.receiver.wait_count(&format!("/{name}"), n, SOON).await.unwrap()
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
        let jetstream = self.world.nats.jetstream(User::Operator).await.unwrap();
        let stream = jetstream.get_stream(DEAD_LETTER_STREAM).await.unwrap();
        let what = format!("a dead letter on {subject}");
        let message = wait_for(&what, SOON, async || Ok(stream.get_last_raw_message_by_subject(&subject).await?));
        let message = message.await.unwrap();
        let letter = message.headers.get(DEAD_LETTER_HEADER).unwrap().as_str();
        (serde_json::from_str(letter).unwrap(), String::from_utf8(message.payload.to_vec()).unwrap())
    }
}

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

/// The condition of that type.
pub(crate) fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}
