//! Hookwright's own streams, buckets and consumers: what someone changes is put right, and what goes leaves its marks.

use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, FromConsumer, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Republish, Stream, SubjectTransform};
use futures::StreamExt;
use hookwright_core::nats::names::{
    CONFIG_BUCKET, DEAD_LETTER_STREAM, DUE_CONSUMER, HEALTH_BUCKET, PARKED_STREAM, STATE_BUCKET, deleted_key,
};
use hookwright_e2e::{Answer, Options, User, World, by_length, wait_for};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, TIMEOUT, beside, condition, fixed, metric, shared};

/// How soon it is put right. The operator looks at its own streams every 5 s, and at the Producers' streams and consumers
/// every 10 s.
fn put_right() -> Duration {
    by_length(SOON, Duration::from_secs(15))
}

async fn jetstream(world: &World) -> Context {
    world.nats.jetstream(User::Admin).await.unwrap()
}

/// An edit that someone makes.
type Edit = fn(&mut Config);

/// The configuration without what NATS says of itself.
fn bare(mut config: Config) -> Config {
    config.metadata.clear();
    config
}

/// Edits a stream, and waits until it is as it was.
async fn edited(jetstream: &Context, name: &str, edit: Edit) {
    let before = jetstream.get_stream(name).await.unwrap().cached_info().config.clone();
    let mut config = before.clone();
    edit(&mut config);
    assert_ne!(bare(jetstream.update_stream(&config).await.unwrap().config), bare(before.clone()), "{name}");
    let start = Instant::now();
    wait_for(&format!("{name} to be put right"), put_right(), async || {
        let live = jetstream.get_stream(name).await?.cached_info().config.clone();
        anyhow::ensure!(bare(live.clone()) == bare(before.clone()), "{live:?}");
        Ok(())
    })
    .await
    .unwrap();
    println!("{name} was put right after {:?}", start.elapsed());
}

/// The configuration of a consumer, and its pause.
async fn consumer(stream: &Stream, name: &str) -> anyhow::Result<(pull::Config, bool)> {
    let info = stream.consumer_info(name).await?;
    let paused = info.paused;
    let config = pull::Config::try_from_consumer_config(info.config).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((config, paused))
}

/// Edits a consumer and pauses it, and waits until it is as it was.
async fn edited_and_paused(stream: &Stream, name: &str) {
    let (before, _) = consumer(stream, name).await.unwrap();
    let edit = pull::Config {
        headers_only: true,
        max_batch: 1,
        max_bytes: 1,
        ack_wait: Duration::from_secs(60),
        max_deliver: 2,
        inactive_threshold: Duration::from_secs(600),
        ..before.clone()
    };
    stream.update_consumer(edit).await.unwrap();
    let hour = async_nats::datetime::DateTime::now_utc() + Duration::from_secs(3600);
    assert!(stream.pause_consumer(name, hour).await.unwrap().paused);
    let start = Instant::now();
    wait_for(&format!("{name} to be put right"), put_right(), async || {
        let (mut live, paused) = consumer(stream, name).await?;
        live.metadata.clone_from(&before.metadata);
        anyhow::ensure!(!paused && live == before, "{paused} {live:?}");
        Ok(())
    })
    .await
    .unwrap();
    println!("{name} was put right after {:?}", start.elapsed());
}

#[tokio::test]
async fn what_someone_changes_is_put_right() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let jetstream = jetstream(&world).await;
    shop.subscribe("all", &[">"], json!({})).await;
    shop.publish(&shop.event("a", "first")).await;
    shop.requests("all", 1).await;

    let (config, state, health) =
        (format!("KV_{CONFIG_BUCKET}"), format!("KV_{STATE_BUCKET}"), format!("KV_{HEALTH_BUCKET}"));
    let own = format!("{}_orders", shop.namespace);
    let edits: [(&str, Edit); 7] = [
        (PARKED_STREAM, |c| (c.max_messages, c.max_bytes, c.max_message_size) = (5, 1 << 20, 100)),
        (PARKED_STREAM, |c| (c.max_age, c.max_messages_per_subject) = (Duration::from_secs(3600), 1)),
        (DEAD_LETTER_STREAM, |c| {
            (c.discard, c.max_message_size, c.max_age) = (DiscardPolicy::New, 1024, Duration::from_secs(3600));
            c.republish = Some(Republish { source: ">".into(), destination: "copied.>".into(), headers_only: false });
        }),
        (&config, |c| (c.max_messages_per_subject, c.allow_direct) = (5, false)),
        (&state, |c| (c.max_age, c.max_bytes) = (Duration::from_secs(3600), 1 << 20)),
        (&health, |c| (c.discard, c.subjects) = (DiscardPolicy::Old, vec!["elsewhere.>".into()])),
        (&own, |c| {
            (c.max_message_size, c.max_age) = (100, Duration::from_secs(3600));
            c.subject_transform = Some(SubjectTransform { source: ">".into(), destination: "elsewhere.>".into() });
        }),
    ];
    for (name, edit) in edits {
        edited(&jetstream, name, edit).await;
    }
    let parked = jetstream.get_stream(PARKED_STREAM).await.unwrap();
    edited_and_paused(&parked, DUE_CONSUMER).await;
    let stream = jetstream.get_stream(&own).await.unwrap();
    let shared = shop.consumer().await.unwrap().name;
    edited_and_paused(&stream, &shared).await;

    // Another consumer in its place would skip what comes before the operator looks.
    let (before, _) = consumer(&stream, &shared).await.unwrap();
    world.operator.freeze().unwrap();
    stream.delete_consumer(&shared).await.unwrap();
    for n in 0..5 {
        shop.publish(&shop.event("a", format!("skipped {n}"))).await;
    }
    let other = pull::Config { deliver_policy: DeliverPolicy::New, ack_policy: AckPolicy::All, ..before };
    stream.create_consumer_strict(other).await.unwrap();
    world.operator.thaw().unwrap();
    let all = shop.requests("all", 6).await;
    assert_eq!(all.len(), 6, "each once");
    let config = shop.consumer().await.unwrap().config;
    assert_eq!(config.deliver_policy, DeliverPolicy::ByStartSequence { start_sequence: 2 });
    assert_eq!(config.ack_policy, AckPolicy::Explicit);
}

#[tokio::test]
async fn a_dispatcher_waits_until_the_limits_of_parked_deliveries_are_gone() {
    let _machine = beside().await;
    let mut world = World::start(Options::default()).await.unwrap();
    let jetstream = jetstream(&world).await;
    assert!(world.operator.terminate().await.unwrap().success());
    let mut config = jetstream.get_stream(PARKED_STREAM).await.unwrap().cached_info().config.clone();
    config.max_bytes = 1 << 30;
    jetstream.update_stream(&config).await.unwrap();
    let dispatcher = world.add_dispatcher().unwrap();
    wait_for("the reason", SOON, async || {
        let logs = dispatcher.logs();
        anyhow::ensure!(logs.contains("has limits, so it could drop deliveries"), "{logs}");
        Ok(())
    })
    .await
    .unwrap();
    world.operator.restart().unwrap();
    world.dispatchers[1].wait_ready(SOON).await.unwrap();
}

/// The headers of a key's newest message in the config bucket; none if there is no message.
async fn newest(jetstream: &Context, key: &str) -> Option<async_nats::HeaderMap> {
    let stream = jetstream.get_stream(format!("KV_{CONFIG_BUCKET}")).await.unwrap();
    let found = stream.get_last_raw_message_by_subject(&format!("$KV.{CONFIG_BUCKET}.{key}")).await;
    found.ok().map(|message| message.headers)
}

#[tokio::test]
async fn only_a_deleted_subscription_is_marked_as_deleted() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let jetstream = jetstream(&world).await;
    let gone = shop.subscribe("gone", &[">"], json!({})).await;
    let kept = shop.subscribe("kept", &[">"], fixed("1h")).await;
    let producer = shop.producer().await;
    let mark = |uid: &str| deleted_key(&uid.to_owned().try_into().unwrap());
    assert!(newest(&jetstream, &mark(&gone)).await.is_none());

    let plane = &world.control_plane;
    let delete = ["delete", "subscription.hookwright.dev/gone", "-n", &shop.namespace, TIMEOUT];
    plane.kubectl(&delete).await.unwrap();
    let headers = newest(&jetstream, &mark(&gone)).await.unwrap();
    assert!(headers.get("KV-Operation").is_none(), "{headers:?}");
    let headers = newest(&jetstream, &format!("subscription.{producer}.{gone}")).await.unwrap();
    let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(text("KV-Operation").as_deref(), Some("DEL"));
    assert_eq!(text("Nats-TTL").as_deref(), Some("1h"), "{headers:?}");
    assert_eq!(text("Nats-Rollup"), None);

    // A new Producer of the same name: the Subscription gets a new record.
    let delete = ["delete", "producer.hookwright.dev/orders", "-n", &shop.namespace, TIMEOUT];
    plane.kubectl(&delete).await.unwrap();
    assert!(newest(&jetstream, &mark(&kept)).await.is_none());
}

/// More keys than one batched read returns.
#[tokio::test]
async fn what_belongs_to_no_object_is_removed_however_much_it_is() {
    const MANY: usize = 1_500;
    let _machine = beside().await;
    let operator = json!({ "orphanGrace": "4s" });
    let world = World::start(Options { operator, ..Options::default() }).await.unwrap();
    let jetstream = jetstream(&world).await;
    let put = |subject: String| {
        let jetstream = jetstream.clone();
        async move { jetstream.publish(subject, "{}".into()).await.unwrap().await.unwrap() }
    };
    let uids = || (0..MANY).map(|n| format!("{n:08}-lost"));
    let keys = uids().map(|uid| format!("$KV.{CONFIG_BUCKET}.subscription.nobody.{uid}"));
    let counts = uids().map(|uid| format!("$KV.{HEALTH_BUCKET}.{uid}.base"));
    futures::stream::iter(keys.chain(counts).map(put)).buffer_unordered(100).collect::<Vec<_>>().await;
    world.operator.restart().unwrap();
    let left = async |bucket: &str, filter: &str| {
        let stream = jetstream.get_stream(format!("KV_{bucket}")).await?;
        let mut subjects = stream.info_with_subjects(format!("$KV.{bucket}.{filter}")).await?;
        let mut left = 0;
        while let Some(found) = subjects.next().await {
            let (subject, _) = found?;
            let newest = stream.get_last_raw_message_by_subject(&subject).await?;
            left += usize::from(newest.headers.get("KV-Operation").is_none());
        }
        anyhow::Ok(left)
    };
    wait_for("all to be removed", 3 * SOON, async || {
        let left = (left(CONFIG_BUCKET, "subscription.nobody.*").await?, left(HEALTH_BUCKET, "*.base").await?);
        anyhow::ensure!(left == (0, 0), "{left:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(left(CONFIG_BUCKET, "deleted.*").await.unwrap(), MANY, "each is marked as deleted");
}

#[tokio::test]
async fn a_fault_that_one_object_brings_out_harms_no_other() {
    let _machine = beside().await;
    // With few requests a second, everything comes to its turn all the same.
    let slow = json!({ "qps": 10, "burst": 5 });
    let operator = json!({ "environment": { "HOOKWRIGHT_TEST_PANIC": "faulty/bad" }, "kubernetes": slow });
    let world = World::start(Options { operator, ..Options::default() }).await.unwrap();
    let plane = &world.control_plane;
    plane.kubectl(&["create", "namespace", "faulty"]).await.unwrap();
    let object = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": "hookwright.dev/v1alpha1",
            "kind": kind,
            "metadata": { "name": name, "namespace": "faulty" },
            "spec": spec,
        })
    };
    let producer = |name: &str| object("Producer", name, json!({ "subjects": [format!("faulty.{name}.>")] }));
    let schema = |name: &str| {
        let versions = json!([{ "version": "1", "jsonSchema": {} }]);
        object("EventSchema", name, json!({ "producerRef": { "name": "good" }, "type": name, "versions": versions }))
    };
    let subscription = |name: &str| {
        let endpoint = json!({ "url": "https://example.com/" });
        object("Subscription", name, json!({ "producerRef": { "name": "good" }, "endpoint": endpoint }))
    };
    let kinds = [
        ("producers", ["bad", "good"].map(producer)),
        ("eventschemas", ["bad", "good"].map(schema)),
        ("subscriptions", ["bad", "good"].map(subscription)),
    ];
    let told = |object: &Value| condition(&object["status"], "Programmed")["reason"] == "InternalError";
    for (plural, [bad, good]) in kinds {
        plane.apply_json(&bad).await.unwrap();
        let found = plane.wait_until("faulty", plural, "bad", "the fault", SOON, told).await.unwrap();
        let message = condition(&found["status"], "Programmed")["message"].as_str().unwrap();
        assert!(message.contains("a test asked for this panic"), "{plural}: {message}");
        assert_eq!(condition(&found["status"], "Ready")["status"], "False", "{plural}");
        plane.apply_json(&good).await.unwrap();
        world.wait_ready("faulty", plural, "good").await.unwrap();
    }
    let shop = Shop::open(&world, json!({})).await;
    shop.receiver.answer("/all", Answer::status(200));
    shop.subscribe("all", &[">"], json!({})).await;
    shop.publish(&shop.event("a", "{}")).await;
    shop.requests("all", 1).await;
    let metrics = world.operator.metrics().await.unwrap();
    assert!(metric(&metrics, "hookwright_operator_api_requests_delayed_total ") > 0, "{metrics}");
}

/// As after the cluster was restored from a backup.
#[tokio::test]
async fn a_record_of_a_generation_that_the_api_server_does_not_know_is_written_again() {
    let (shop, _machine) = shared().await;
    let uid = shop.subscribe("restored", &[">"], json!({})).await;
    let key = format!("subscription.{}.{uid}", shop.producer().await);
    let bucket = jetstream(shop.world).await.get_key_value(CONFIG_BUCKET).await.unwrap();
    let before: Value = serde_json::from_slice(&bucket.get(&key).await.unwrap().unwrap()).unwrap();
    let mut later = before.clone();
    later["identity"]["generation"] = json!(9);
    bucket.put(&key, later.to_string().into()).await.unwrap();
    shop.subscribe("restored", &[">"], json!({ "delivery": { "timeout": "5s" } })).await;
    wait_for("the record to be the object's", SOON, async || {
        let now: Value = serde_json::from_slice(&bucket.get(&key).await?.unwrap_or_default())?;
        anyhow::ensure!(now["identity"]["generation"] == 2, "{now}");
        Ok(())
    })
    .await
    .unwrap();
}
