//! Records and messages in NATS that nobody can read, in each bucket and among the parked deliveries. They need rights that
//! only Hookwright's own users have.

use std::collections::HashSet;

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use bytes::Bytes;
use hookwright_core::delivery::event_headers::EVENT_HEADERS_HEADER;
use hookwright_core::delivery::parked::PARKED_HEADER;
use hookwright_core::delivery::test_delivery::TEST_HEADER;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{
    CONFIG_BUCKET, CURSORS_BUCKET, HEALTH_BUCKET, INSTALLATION_KEY, LEASES_BUCKET, POSITIONS_BUCKET, STATE_BUCKET,
    parked_due,
};
use hookwright_e2e::{Component, Options, User, World, wait_for};
use serde_json::{Value, json};

use crate::faults::all_received;
use crate::shop::{SOON, Shop, beside, metric};

/// What is in the records, and in no log.
const CANARY: &str = "hush-canary";

fn nested(begin: &str, end: &str) -> String {
    format!("{begin}{}{}{end}", "[".repeat(10_000), "]".repeat(10_000))
}

/// Values that are no record of any kind, or none that this release can read, each for another reason.
fn values() -> Vec<Bytes> {
    let long = CANARY.repeat((900 << 10) / CANARY.len());
    let texts = [
        CANARY.to_owned(),
        String::new(),
        nested("", ""),
        nested(r#"{"version":1,"later":"#, "}"),
        format!(r#"{{"version":1,"{long}":1}}"#),
        format!(r#"{{"version":"{CANARY}"}}"#),
        format!(r#"{{"version":1,"version":1,"uid":"{CANARY}"}}"#),
        format!(r#"{{"version":1,"why":"{CANARY}","reason":"{CANARY}","streamCreated":"{CANARY}"}}"#),
        format!(r#"{{"version":1,"revision":{},"uid":"{CANARY}"}}"#, u64::MAX),
        format!(r#"{{"version":2,"uid":"{CANARY}"}}"#),
    ];
    let not_text = Bytes::from_static(b"{\"version\":1,\"uid\":\"\xff\xfe\"}");
    texts.into_iter().map(Bytes::from).chain([not_text]).collect()
}

/// The keys of all kinds that an object of this uid may have, of the Producer or without one, and some that are none.
fn keys(producer: &str, uid: &str) -> Vec<(&'static str, String)> {
    let of = |bucket: &'static str, keys: &[&str]| -> Vec<_> {
        keys.iter().map(|key| (bucket, key.replace("UID", uid).replace("PRODUCER", producer))).collect()
    };
    let config = [
        "producer.UID",
        "subscription.PRODUCER.UID",
        "schema.PRODUCER.UID",
        "former.Subscription.nowhere.UID",
        "neither.of.UID",
    ];
    let state =
        ["disabled.UID", "checkpoint.UID", "grants.UID", "violations.UID", "test.UID", "dead.UID", "neither.UID"];
    let health = ["UID.base", "UID.c0ffee", "UID.A.b", "UID"];
    [
        of(CONFIG_BUCKET, &config),
        of(STATE_BUCKET, &state),
        of(HEALTH_BUCKET, &health),
        of(POSITIONS_BUCKET, &["UID"]),
        of(CURSORS_BUCKET, &["UID"]),
        of(LEASES_BUCKET, &["UID", "slot.UID", "UID.A"]),
    ]
    .concat()
}

/// A system with a namespace to which all this happens.
struct Poisoned<'w> {
    world: &'w World,
    shop: Shop<'w>,
    producer: String,
    /// The Subscription whose own records are hostile, too.
    worst: SubscriptionUid,
    jetstream: Context,
}

impl<'w> Poisoned<'w> {
    async fn open(world: &'w World) -> Self {
        let shop = Shop::open(world, json!({})).await;
        shop.subscribe("plain", &[">"], json!({})).await;
        let worst = SubscriptionUid::parse(&shop.subscribe("worst", &[">"], json!({})).await).unwrap();
        let producer = shop.producer().await.to_string();
        let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
        Self { world, shop, producer, worst, jetstream }
    }

    async fn put(&self, bucket: &str, key: &str, value: Bytes) {
        self.jetstream.publish(format!("$KV.{bucket}.{key}"), value).await.unwrap().await.unwrap();
    }

    /// Puts a value of each form under a key of each form, and what is no record in place of those that are in use.
    async fn poison_buckets(&self) {
        for (n, value) in values().into_iter().enumerate() {
            for (bucket, key) in keys(&self.producer, &format!("hostile-{n}")) {
                self.put(bucket, &key, value.clone()).await;
            }
        }
        for uid in [self.producer.as_str(), self.worst.as_str()] {
            for (bucket, key) in keys(&self.producer, uid) {
                self.put(bucket, &key, nested("", "").into()).await;
            }
        }
        self.put(LEASES_BUCKET, "slot.7", CANARY.into()).await;
    }

    /// Puts messages among the due deliveries that are none. One is too large to be parked again.
    async fn poison_due(&self) {
        let event = json!({
            "stream": CANARY, "streamCreated": "2026-01-01T00:00:00Z", "sequence": u64::MAX, "subject": "a b",
            "published": "2026-01-01T00:00:00Z", "eventType": "a",
        });
        let evil = json!({
            "version": 1, "subscription": self.worst, "producer": self.producer, "id": "msg_\r\nx-evil: 1",
            "revision": 1, "event": event, "progress": { "attempts": 0, "parks": 0, "history": [] },
        });
        let (evil, deep) = (evil.to_string(), nested("", ""));
        let jetstream = self.world.nats.jetstream(User::Admin).await.unwrap();
        for (subject, name, value) in [
            (parked_due(&self.worst), "X", CANARY),
            (parked_due(&self.worst), PARKED_HEADER, CANARY),
            (parked_due(&self.worst), PARKED_HEADER, &*deep),
            (parked_due(&self.worst), PARKED_HEADER, &*evil),
            (parked_due(&self.worst), EVENT_HEADERS_HEADER, &*deep),
            (parked_due(&self.worst), TEST_HEADER, CANARY),
            (format!("{}.test", parked_due(&self.worst)), TEST_HEADER, &*deep),
            ("hookwright.parked.due.any.A.b".to_owned(), "X", CANARY),
            (format!("hookwright.parked.at.{}.hostile", self.worst), "X", CANARY),
            (format!("hookwright.dead.s.{}", self.worst), "X", CANARY),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value);
            jetstream.publish_with_headers(subject, headers, CANARY.into()).await.unwrap().await.unwrap();
        }
        let largest = "x".repeat((1 << 20) - 64);
        jetstream.publish(parked_due(&self.worst), largest.into()).await.unwrap().await.unwrap();
    }

    fn components(&self) -> impl Iterator<Item = &Component> {
        let dispatchers = self.world.dispatchers.iter().map(|dispatcher| -> &Component { dispatcher });
        dispatchers.chain([&*self.world.operator])
    }

    fn no_log_has_it(&self) {
        for component in self.components() {
            let logs = component.logs();
            let line = logs.lines().find(|line| line.contains(CANARY));
            assert!(line.is_none(), "{line:?}");
        }
    }

    /// The newest value under a key, as JSON.
    async fn newest(&self, bucket: &str, key: &str) -> anyhow::Result<Value> {
        let stream = self.jetstream.get_stream(format!("KV_{bucket}")).await?;
        let newest = stream.get_last_raw_message_by_subject(&format!("$KV.{bucket}.{key}")).await?;
        Ok(serde_json::from_slice(&newest.payload)?)
    }
}

/// The namespace gets its events, one of them now, and a new Subscription is served.
async fn is_served(shop: &Shop<'_>, published: &mut HashSet<String>) {
    let body = format!("event {}", published.len());
    shop.publish(&shop.event("a", body.clone())).await;
    published.insert(body);
    all_received(shop, "all", published).await;
    let name = format!("new-{}", published.len());
    shop.subscribe(&name, &["b"], json!({})).await;
    shop.publish(&shop.event("b", name.clone())).await;
    all_received(shop, &name, &HashSet::from([name.clone()])).await;
}

#[tokio::test]
async fn what_nobody_can_read_in_nats_stops_nothing_else() {
    let _machine = beside().await;
    let operator = json!({ "orphanGrace": "4s" });
    let world = World::start(Options { dispatchers: 2, operator, ..Options::default() }).await.unwrap();
    let (poisoned, other) = (Poisoned::open(&world).await, Shop::open(&world, json!({})).await);
    other.subscribe("all", &["a"], json!({})).await;
    let published = &mut HashSet::new();

    poisoned.poison_buckets().await;
    poisoned.poison_due().await;
    poisoned.put(CONFIG_BUCKET, INSTALLATION_KEY, CANARY.into()).await;
    is_served(&other, published).await;
    wait_for("the installation's record to be written again", SOON, async || {
        let record = poisoned.newest(CONFIG_BUCKET, INSTALLATION_KEY).await?;
        anyhow::ensure!(record["id"].is_string(), "{record}");
        Ok(())
    })
    .await
    .unwrap();
    wait_for("what is too large to be parked again to be let go", SOON, async || {
        let mut refused = 0;
        for dispatcher in &world.dispatchers {
            refused += metric(&dispatcher.metrics().await?, "dead_letters_refused_total{reason=\"Refused\"}");
        }
        anyhow::ensure!(refused > 0, "none was refused");
        Ok(())
    })
    .await
    .unwrap();
    poisoned.no_log_has_it();

    // All start with it.
    for component in poisoned.components() {
        component.kill9().unwrap();
    }
    poisoned.poison_buckets().await;
    for component in poisoned.components() {
        component.restart().unwrap();
    }
    for component in poisoned.components() {
        component.wait_ready(SOON).await.unwrap();
    }
    is_served(&other, published).await;
    let third = Shop::open(&world, json!({})).await;
    third.subscribe("all", &["a"], json!({})).await;
    is_served(&third, &mut HashSet::new()).await;

    // What was in use is written again, and what belongs to nobody is removed.
    for (bucket, key) in [
        (CONFIG_BUCKET, format!("producer.{}", poisoned.producer)),
        (CONFIG_BUCKET, format!("subscription.{}.{}", poisoned.producer, poisoned.worst)),
        (STATE_BUCKET, format!("checkpoint.{}", poisoned.producer)),
    ] {
        wait_for(&format!("{key} to be a record again"), SOON, async || {
            let record = poisoned.newest(bucket, &key).await?;
            anyhow::ensure!(record["version"] == 1, "{record}");
            Ok(())
        })
        .await
        .unwrap();
    }
    poisoned.shop.publish(&poisoned.shop.event("a", "late")).await;
    all_received(&poisoned.shop, "plain", &HashSet::from(["late".to_owned()])).await;
    let evil =
        |path: &str| poisoned.shop.receiver.requests(path).iter().any(|request| !request.header("x-evil").is_empty());
    assert!(!evil("/worst") && !evil("/plain"));
    poisoned.no_log_has_it();
}
