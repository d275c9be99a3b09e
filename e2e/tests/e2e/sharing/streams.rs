//! Streams that a Producer may name and those that it may not: what a namespace tries in order to get at more than is its
//! own, and an existing stream that is only read.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use hookwright_core::nats::names::{DEAD_LETTER_STREAM, dead_event};
use hookwright_e2e::{Event, User, World, wait_for};
use serde_json::{Value, json};

use super::{edit_producer, foreign, let_in, publish_and_wait, shut_out};
use crate::malformed::publish_raw;
use crate::shop::{FEW, SOON, Shop, TENANT, TIMEOUT, condition, shared};

/// The stream's configuration, and how many consumers it has.
async fn stream(world: &World, name: &str) -> (Config, usize) {
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let mut stream = jetstream.get_stream(name).await.unwrap();
    let info = stream.info().await.unwrap();
    (info.config.clone(), info.state.consumer_count)
}

pub(super) async fn create_stream(world: &World, config: Config) {
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let num_replicas = world.nats.replicas();
    jetstream.create_stream(Config { num_replicas, ..config }).await.unwrap();
}

#[tokio::test]
async fn an_existing_stream_is_read_by_the_producers_subjects_and_never_changed() {
    let (shop, _machine) = shared().await;
    let name = format!("{}_all", shop.namespace);
    let subject = |rest: &str| format!("{}.all.{rest}", shop.namespace);
    let config = Config {
        name: name.clone(),
        subjects: vec![subject(">")],
        max_messages: 1000,
        max_age: Duration::from_secs(3600),
        description: Some("someone else's".to_owned()),
        ..Config::default()
    };
    create_stream(shop.world, config).await;
    let (before, _) = stream(shop.world, &name).await;
    shop.publish(&Event::new(subject("a.early"), "early")).await;
    let spec = json!({
        "subjects": [subject("a.>"), subject("b")],
        "stream": { "policy": "Existing", "name": name },
        "eventType": { "stripPrefix": subject("") },
    });
    shop.produce("existing", "all", spec).await;
    let of_existing = json!({ "producerRef": { "name": "existing" } });
    shop.subscribe("reader", &[">"], of_existing).await;
    for (rest, body) in [("c", "not ours"), ("a.x", "1"), ("b.x", "not ours"), ("b", "2"), ("a.y.z", "3")] {
        shop.publish(&Event::new(subject(rest), body)).await;
    }
    let got = shop.requests("reader", 3).await;
    let mut bodies: Vec<_> = got.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    bodies.sort();
    assert_eq!(bodies, ["1", "2", "3"]);

    // An edit of the subjects moves the filter, and touches nothing else.
    let plane = &shop.world.control_plane;
    let patch = json!({ "spec": { "subjects": [subject("c")] } }).to_string();
    let existing = "producer.hookwright.dev/existing";
    plane.kubectl(&["patch", existing, "-n", &shop.namespace, "--type=merge", "-p", &patch]).await.unwrap();
    let mut n = 0;
    wait_for("an event on the new subject", SOON, async || {
        n += 1;
        shop.publish(&Event::new(subject("c"), format!("new {n}"))).await;
        anyhow::ensure!(shop.receiver.count("/reader") > 3, "nothing yet");
        Ok(())
    })
    .await
    .unwrap();
    shop.publish(&Event::new(subject("a.x"), "not ours any more")).await;
    shop.publish(&Event::new(subject("c"), "last")).await;
    let last = |body: &[u8]| body == b"last";
    wait_for("the last event", SOON, async || {
        anyhow::ensure!(shop.receiver.requests("/reader").iter().any(|r| last(&r.body)), "nothing yet");
        Ok(())
    })
    .await
    .unwrap();
    let unwanted = |body: &[u8]| body.starts_with(b"not ours") || body == b"early";
    assert!(!shop.receiver.requests("/reader").iter().any(|request| unwanted(&request.body)));
    assert_eq!(stream(shop.world, &name).await, (before.clone(), 1));

    plane.kubectl(&["delete", existing, "-n", &shop.namespace, TIMEOUT]).await.unwrap();
    assert_eq!(stream(shop.world, &name).await, (before, 0), "only the shared consumer goes");
}

/// The operator reads unreadable events itself, with its own rights.
#[tokio::test]
async fn an_unreadable_event_of_a_neighbour_in_the_same_stream_is_not_put_aside() {
    let (shop, _machine) = shared().await;
    let name = format!("{}_both", shop.namespace);
    let subject = |rest: &str| format!("{}.both.{rest}", shop.namespace);
    create_stream(shop.world, Config { name: name.clone(), subjects: vec![subject(">")], ..Config::default() }).await;
    let spec = json!({ "subjects": [subject("ours")], "stream": { "policy": "Existing", "name": name } });
    shop.produce("both", "both", spec).await;
    let bad = b"NATS/1.0\r\nbad name: 1\r\n\r\n";
    for (rest, body) in [("theirs", "theirs 1"), ("ours", "ours"), ("theirs", "theirs 2"), ("ours", "ours")] {
        publish_raw(&shop.world.nats, &subject(rest), bad, body.as_bytes()).await;
    }
    let (_, body) = shop.dead_event("both").await;
    assert_eq!(body, "ours");
    let producer = shop.world.control_plane.get(&shop.namespace, "producers", "both").await.unwrap();
    let uid = producer["metadata"]["uid"].as_str().unwrap().to_owned();
    let letters = dead_event(&uid.try_into().unwrap());
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    wait_for("both of ours to be put aside, and nothing else", SOON, async || {
        let stream = jetstream.get_stream(&name).await?;
        let consumer = futures::TryStreamExt::try_next(&mut stream.consumers()).await?;
        let pending = consumer.map(|consumer| consumer.num_ack_pending);
        anyhow::ensure!(pending == Some(0), "{pending:?} pending");
        let dead = jetstream.get_stream(DEAD_LETTER_STREAM).await?;
        let mut subjects = dead.info_with_subjects(&letters).await?;
        let count = futures::TryStreamExt::try_next(&mut subjects).await?;
        anyhow::ensure!(count == Some((letters.clone(), 2)), "{count:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// A Producer that is refused, and why.
pub(crate) async fn refused(world: &World, namespace: &str, name: &str, spec: Value, reason: &str) {
    let object = json!({
        "apiVersion": "hookwright.dev/v1alpha1",
        "kind": "Producer",
        "metadata": { "name": name, "namespace": namespace },
        "spec": spec,
    });
    world.control_plane.apply_json(&object).await.unwrap();
    let check = |object: &Value| {
        let accepted = condition(&object["status"], "Accepted");
        accepted["status"] == "False" && accepted["reason"] == reason
    };
    world.control_plane.wait_until(namespace, "producers", name, reason, SOON, check).await.unwrap();
}

#[tokio::test]
async fn no_stream_but_ones_own_can_be_had() {
    let (shop, _machine) = shared().await;
    let neighbour = Shop::open(shop.world, json!({})).await;
    let subjects = json!([format!("{}.x.>", shop.namespace)]);
    let theirs = format!("{}_orders", neighbour.namespace);
    let ours = format!("{}_orders", shop.namespace);
    let (before, consumers) = stream(shop.world, &theirs).await;
    let queue = format!("{}_queue", shop.namespace);
    create_stream(
        shop.world,
        Config {
            name: queue.clone(),
            subjects: vec![format!("{}.queue", shop.namespace)],
            retention: RetentionPolicy::WorkQueue,
            ..Config::default()
        },
    )
    .await;
    let named = |name: &str| json!({ "subjects": subjects, "stream": { "name": name } });
    let existing = |name: &str, subject: &str| {
        let subject = format!("{}.{subject}", shop.namespace);
        json!({ "subjects": [subject], "stream": { "policy": "Existing", "name": name } })
    };
    let their_subjects = json!({
        "subjects": [format!("{}.events.>", neighbour.namespace)],
        "stream": { "policy": "Existing", "name": ours },
    });
    for (name, spec, reason) in [
        ("neighbour", named(&theirs), "StreamNameNotAllowed"),
        ("neighbour-existing", existing(&theirs, "events.>"), "StreamNameNotAllowed"),
        ("neighbour-subjects", their_subjects, "SubjectNotAllowed"),
        ("managed", existing(&ours, "events.>"), "StreamOwnedByAnother"),
        ("queue", existing(&queue, "queue"), "StreamRetentionUnsupported"),
        ("missing", existing(&format!("{}_missing", shop.namespace), "x"), "StreamNotFound"),
    ] {
        refused(shop.world, &shop.namespace, name, spec, reason).await;
    }
    for system in ["HOOKWRIGHT_PARKED", "HOOKWRIGHT_DEAD_LETTERS", "KV_HOOKWRIGHT_CONFIG", "OBJ_x", "KV_x"] {
        for spec in [named(system), existing(system, "x")] {
            let object = json!({
                "apiVersion": "hookwright.dev/v1alpha1",
                "kind": "Producer",
                "metadata": { "name": "system", "namespace": shop.namespace },
                "spec": spec,
            });
            let error = shop.world.control_plane.apply_json(&object).await.unwrap_err();
            assert!(format!("{error:#}").contains("are reserved"), "{system}: {error:#}");
        }
    }
    assert_eq!(stream(shop.world, &theirs).await, (before, consumers));
    assert_eq!(stream(shop.world, &queue).await.1, 0);
}

#[tokio::test]
async fn a_recreated_producer_takes_up_its_stream_and_no_subscribers_of_other_namespaces() {
    let (shop, _machine) = shared().await;
    let namespace = shop.world.namespace("guest").await.unwrap();
    let plane = &shop.world.control_plane;
    let old = plane.get(&shop.namespace, "producers", "orders").await.unwrap();
    edit_producer(&shop, json!({ "allowedNamespaces": { "from": "All" } })).await;
    plane.apply_json(&foreign(&shop, &namespace)).await.unwrap();
    let_in(&shop, &namespace).await;
    let delete = ["delete", "producer.hookwright.dev/orders", "-n", &shop.namespace, TIMEOUT];
    plane.kubectl(&delete).await.unwrap();
    shut_out(&shop, &namespace).await;

    // For a Producer of another name the stream isn't its own, nor for reading.
    let events = json!([format!("{}.events.>", shop.namespace)]);
    let name = format!("{}_orders", shop.namespace);
    let spec = json!({ "subjects": events, "stream": { "name": name } });
    refused(shop.world, &shop.namespace, "other", spec, "StreamOwnedByAnother").await;
    let spec = json!({ "subjects": events, "stream": { "name": name, "policy": "Existing" } });
    refused(shop.world, &shop.namespace, "reader", spec, "StreamOwnedByAnother").await;
    let owner = |config: &Config| config.metadata.get("hookwright.dev/producer-uid").cloned();
    let (config, consumers) = stream(shop.world, &name).await;
    assert_eq!((owner(&config).as_deref(), consumers), (old["metadata"]["uid"].as_str(), 0));

    // The one of the same name serves its own namespace again; the guest has to be let in again.
    shop.produce("orders", "events", json!({})).await;
    assert_eq!(owner(&stream(shop.world, &name).await.0), Some(shop.producer().await.to_string()));
    shop.subscribe("own", &[">"], json!({})).await;
    publish_and_wait(&shop, &mut 0).await;
    shut_out(&shop, &namespace).await;
    assert_eq!(shop.receiver.count(&format!("/{namespace}")), 0);
}

/// The shared world's settings give the namespace `TENANT` the subjects `legacy.orders.>` and the streams `LEGACY` and
/// `tenant-*`, and nothing that bears its name.
#[tokio::test]
async fn a_listed_namespace_has_what_the_settings_give_it() {
    let (shop, _machine) = shared().await;
    let world = shop.world;
    world.control_plane.kubectl(&["create", "namespace", TENANT]).await.unwrap();
    let subjects = ["legacy.orders.>", "legacy.invoices.>"].map(str::to_owned).to_vec();
    create_stream(world, Config { name: "LEGACY".into(), subjects, ..Config::default() }).await;
    let on = |stream: Value, subject: &str| json!({ "subjects": [subject], "stream": stream });
    let legacy = json!({ "policy": "Existing", "name": "LEGACY" });
    for (name, spec, reason) in [
        ("own-name", on(json!({ "name": "tenant-1" }), &format!("{TENANT}.x")), "SubjectNotAllowed"),
        ("default-stream", json!({ "subjects": ["legacy.orders.eu"] }), "StreamNameNotAllowed"),
        ("too-wide", on(legacy.clone(), "legacy.>"), "SubjectNotAllowed"),
        ("neighbour", on(legacy.clone(), "legacy.invoices.>"), "SubjectNotAllowed"),
        ("parked", on(json!({ "name": "tenant-2" }), "hookwright.parked.>"), "SubjectNotAllowed"),
        ("conflict", on(json!({ "name": "tenant-3" }), "legacy.orders.eu"), "SubjectConflict"),
    ] {
        refused(world, TENANT, name, spec, reason).await;
    }
    // Another namespace gets at none of it.
    refused(world, &shop.namespace, "legacy", on(legacy.clone(), "legacy.orders.>"), "StreamNameNotAllowed").await;

    let producer = json!({
        "apiVersion": "hookwright.dev/v1alpha1",
        "kind": "Producer",
        "metadata": { "name": "orders", "namespace": TENANT },
        "spec": on(legacy, "legacy.orders.*"),
    });
    world.control_plane.apply_json(&producer).await.unwrap();
    world.wait_ready(TENANT, "producers", "orders").await.unwrap();
    let mut subscription = shop.subscription("tenant", &[">"], json!({}));
    subscription["metadata"]["namespace"] = json!(TENANT);
    world.control_plane.apply_json(&subscription).await.unwrap();
    world.wait_ready(TENANT, "subscriptions", "tenant").await.unwrap();
    shop.publish(&Event::new("legacy.invoices.1", "not theirs")).await;
    shop.publish(&Event::new("legacy.orders.1", "theirs")).await;
    let got = shop.requests("tenant", 1).await;
    assert_eq!(got[0].body, "theirs");

    // Refused, it reads nothing, not even what it read before; accepted again, it goes on where it was.
    let mut forbidden = producer.clone();
    forbidden["spec"]["subjects"] = json!(["legacy.invoices.>"]);
    refused(world, TENANT, "orders", forbidden["spec"].clone(), "SubjectNotAllowed").await;
    let published = &mut 0;
    shop.subscribe("own", &[">"], json!({})).await;
    publish_and_wait(&shop, published).await;
    shop.publish(&Event::new("legacy.orders.2", "later")).await;
    publish_and_wait(&shop, published).await;
    assert_eq!(shop.receiver.count("/tenant"), 1);
    world.control_plane.apply_json(&producer).await.unwrap();
    let got = shop.requests("tenant", 2).await;
    assert_eq!((got[1].body.as_ref(), shop.receiver.count("/tenant")), (b"later".as_slice(), 2));
}

/// Beyond its quota a namespace gets nothing accepted, the youngest first, until an older object goes or takes less.
#[tokio::test]
async fn a_namespace_has_as_much_as_its_quota_and_the_youngest_waits() {
    let (shop, _machine) = shared().await;
    let (world, plane) = (shop.world, &shop.world.control_plane);
    plane.kubectl(&["create", "namespace", FEW]).await.unwrap();
    let spec =
        |name: &str, bytes: &str| json!({ "subjects": [format!("{FEW}.{name}.>")], "stream": { "maxBytes": bytes } });
    let metadata = json!({ "name": "orders", "namespace": FEW });
    let orders = json!({
        "apiVersion": "hookwright.dev/v1alpha1", "kind": "Producer", "metadata": metadata, "spec": spec("orders", "48Mi"),
    });
    plane.apply_json(&orders).await.unwrap();
    world.wait_ready(FEW, "producers", "orders").await.unwrap();
    refused(world, FEW, "more", spec("more", "17Mi"), "QuotaExceeded").await;
    let patch = json!({ "spec": { "stream": { "maxBytes": "16Mi" } } }).to_string();
    plane.kubectl(&["patch", "hprod", "more", "-n", FEW, "--type=merge", "-p", &patch]).await.unwrap();
    world.wait_ready(FEW, "producers", "more").await.unwrap();

    // What the younger one has is not given to an edit of the older one, nor what a deleted one has left to a new one.
    refused(world, FEW, "orders", spec("orders", "64Mi"), "QuotaExceeded").await;
    plane.apply_json(&orders).await.unwrap();
    for name in ["orders", "more"] {
        world.wait_ready(FEW, "producers", name).await.unwrap();
    }
    plane.kubectl(&["delete", "hprod", "more", "-n", FEW, TIMEOUT]).await.unwrap();
    refused(world, FEW, "third", spec("third", "16Mi"), "QuotaExceeded").await;
    let mut more = orders.clone();
    (more["metadata"]["name"], more["spec"]) = (json!("more"), spec("more", "16Mi"));
    more["spec"]["stream"]["deletionPolicy"] = json!("Delete");
    plane.apply_json(&more).await.unwrap();
    world.wait_ready(FEW, "producers", "more").await.unwrap();
    plane.kubectl(&["delete", "hprod", "more", "-n", FEW, TIMEOUT]).await.unwrap();
    world.wait_ready(FEW, "producers", "third").await.unwrap();

    let subscribe = async |name: &str| {
        let mut object = shop.subscription(name, &[">"], json!({}));
        object["metadata"]["namespace"] = json!(FEW);
        plane.apply_json(&object).await.unwrap();
    };
    subscribe("older").await;
    world.wait_ready(FEW, "subscriptions", "older").await.unwrap();
    subscribe("younger").await;
    let beyond = |status: &Value| condition(status, "Accepted")["reason"] == "QuotaExceeded";
    world.wait_status(FEW, "younger", "beyond the quota", SOON, beyond).await.unwrap();
    plane.kubectl(&["delete", "hsub", "older", "-n", FEW, TIMEOUT]).await.unwrap();
    world.wait_ready(FEW, "subscriptions", "younger").await.unwrap();
}
