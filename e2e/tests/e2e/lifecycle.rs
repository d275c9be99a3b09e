//! Ready, edits, deletion.

use std::time::{Duration, Instant};

use hookwright_e2e::{Answer, Event, Options, User, World, is_long, wait_for};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, TIMEOUT, all_loaded, began_after, beside, condition, shared};

#[tokio::test]
async fn what_is_published_right_after_ready_is_delivered() {
    let (shop, _machine) = shared().await;
    for n in 0..50 {
        let name = format!("fresh-{n}");
        let kind = format!("fresh.{n}");
        let plane = &shop.world.control_plane;
        plane.apply_json(&shop.subscription(&name, &[&kind], json!({}))).await.unwrap();
        let subscription = format!("subscription/{name}");
        let wait = ["wait", "--for=condition=Ready", TIMEOUT, "-n", &shop.namespace, &subscription];
        plane.kubectl(&wait).await.unwrap();
        shop.publish(&shop.event(&kind, "{}")).await;
        shop.requests(&name, 1).await;
    }
}

/// Ready says when it has taken effect. The long form judges that it does within 5 s.
#[tokio::test]
async fn an_edit_of_the_url_takes_effect_when_it_is_ready() {
    let (shop, _machine) = shared().await;
    shop.subscribe("edited", &[">"], json!({})).await;
    shop.publish(&shop.event("a", "{}")).await;
    shop.requests("edited", 1).await;
    let edit = json!({ "endpoint": { "url": shop.receiver.url("/new") } });
    shop.world.control_plane.apply_json(&shop.subscription("edited", &[">"], edit)).await.unwrap();
    let applied = Instant::now();
    shop.world.wait_ready(&shop.namespace, "subscriptions", "edited").await.unwrap();
    assert!(!is_long() || applied.elapsed() < Duration::from_secs(5), "{:?}", applied.elapsed());
    // Both dispatchers are kept at work: none of them may still use the old URL.
    let (ready, mut n) = (Instant::now(), 0);
    while ready.elapsed() < Duration::from_secs(5) {
        n += 1;
        shop.publish(&shop.event("b", format!("{n}"))).await;
        shop.requests("new", n).await;
    }
    let old = shop.receiver.requests("/edited");
    let old: Vec<_> = old.iter().map(|request| &request.body).collect();
    assert!(old.iter().all(|body| *body == "{}"), "{old:?}");
}

/// The long form judges that dispatchers know of the deletion within 5 s.
#[tokio::test]
async fn no_request_starts_after_a_deletion_is_known_not_even_a_retry() {
    let (shop, _machine) = shared().await;
    shop.receiver.answer("/deleted", Answer::status(500));
    let retry = json!({ "maxAttempts": 100, "backoff": { "type": "Fixed", "delay": "1s" }, "jitterPercent": 0 });
    let uid = shop.subscribe("deleted", &[">"], json!({ "delivery": { "retry": retry } })).await;
    shop.subscribe("other", &[">"], json!({})).await;
    // Fewer than open the breaker.
    for n in 0..5 {
        shop.publish(&shop.event("a", format!("{n}"))).await;
    }
    shop.requests("deleted", 20).await;
    let delete = ["delete", "subscription.hookwright.dev/deleted", "-n", &shop.namespace, TIMEOUT];
    shop.world.control_plane.kubectl(&delete).await.unwrap();
    let deleted = Instant::now();
    let loaded = all_loaded(shop.world).await;
    assert!(!is_long() || deleted.elapsed() < Duration::from_secs(5), "{:?}", deleted.elapsed());
    // Later events still reach the other, so the dispatchers are at work all along.
    let mut n = 5;
    while deleted.elapsed() < Duration::from_secs(10) {
        shop.publish(&shop.event("b", "{}")).await;
        n += 1;
        shop.requests("other", n).await;
    }
    // One that has begun and is not sent yet gets some time.
    assert_eq!(began_after(&shop.receiver.requests("/deleted"), loaded + Duration::from_secs(5)), 0);
    assert_eq!(config_keys(shop.world, &uid).await.unwrap(), [format!("deleted.{uid}")]);
}

#[tokio::test]
async fn a_producer_keeps_or_deletes_its_stream_as_its_policy_says() {
    let (shop, _machine) = shared().await;
    shop.produce("kept", "kept", json!({})).await;
    shop.produce("gone", "gone", json!({ "stream": { "deletionPolicy": "Delete" } })).await;
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    for name in ["kept", "gone"] {
        let delete = ["delete", &format!("producer.hookwright.dev/{name}"), "-n", &shop.namespace, TIMEOUT];
        shop.world.control_plane.kubectl(&delete).await.unwrap();
    }
    let stream = |name: &str| jetstream.get_stream(format!("{}_{name}", shop.namespace));
    assert!(stream("gone").await.is_err());
    let mut kept = stream("kept").await.unwrap();
    assert_eq!(kept.info().await.unwrap().state.consumer_count, 0, "only the shared consumer goes");

    // A Producer of the same name takes the stream up; it is not one's of another name.
    let refused = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Accepted" && c["reason"] == "StreamOwnedByAnother")
    };
    let other = json!({
        "apiVersion": "hookwright.dev/v1alpha1",
        "kind": "Producer",
        "metadata": { "name": "other", "namespace": shop.namespace },
        "spec": {
            "subjects": [format!("{}.kept.>", shop.namespace)],
            "stream": { "name": format!("{}_kept", shop.namespace) },
        },
    });
    shop.world.control_plane.apply_json(&other).await.unwrap();
    let plane = &shop.world.control_plane;
    plane.wait_until(&shop.namespace, "producers", "other", "refused", SOON, refused).await.unwrap();
}

#[tokio::test]
async fn an_edit_of_a_producer_changes_its_stream_in_place() {
    let (shop, _machine) = shared().await;
    shop.produce("edited", "edited", json!({ "stream": { "maxAge": "1h" } })).await;
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let name = format!("{}_edited", shop.namespace);
    let before = jetstream.get_stream(&name).await.unwrap().cached_info().clone();
    shop.publish(&Event::new(format!("{}.edited.x", shop.namespace), "{}")).await;
    shop.produce("edited", "edited", json!({ "stream": { "maxAge": "2h" } })).await;
    let after = jetstream.get_stream(&name).await.unwrap().cached_info().clone();
    assert_eq!((before.config.max_age, after.config.max_age), (Duration::from_secs(3600), Duration::from_secs(7200)));
    assert_eq!((before.created, after.state.messages), (after.created, 1));
}

#[tokio::test]
async fn a_producer_may_not_take_the_subjects_of_another_namespace() {
    let (shop, _machine) = shared().await;
    let other = Shop::open(shop.world, json!({})).await;
    for (name, subject, reason) in [
        ("foreign", format!("{}.events.>", other.namespace), "SubjectNotAllowed"),
        ("system", "hookwright.parked.>".to_owned(), "SubjectNotAllowed"),
        ("overlap", format!("{}.events.order.*", shop.namespace), "SubjectConflict"),
    ] {
        let object = json!({
            "apiVersion": "hookwright.dev/v1alpha1",
            "kind": "Producer",
            "metadata": { "name": name, "namespace": shop.namespace },
            "spec": { "subjects": [subject] },
        });
        shop.world.control_plane.apply_json(&object).await.unwrap();
        let refused = |object: &Value| {
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let has = |kind: &str, status: &str| conditions.iter().any(|c| c["type"] == kind && c["status"] == status);
            let why = conditions.iter().any(|c| c["type"] == "Accepted" && c["reason"] == reason);
            why && has("Accepted", "False") && has("Ready", "False") && has("Stalled", "True")
        };
        let plane = &shop.world.control_plane;
        plane.wait_until(&shop.namespace, "producers", name, reason, SOON, refused).await.unwrap();
    }
}

/// As `kubectl replace --force` and GitOps do. Subscriptions of another namespace go on, too, if the new Producer lets them
/// in.
#[tokio::test]
async fn a_producer_that_is_created_again_goes_on_where_it_was() {
    let (shop, _machine) = shared().await;
    let all = json!({ "allowedNamespaces": { "from": "All" } });
    shop.produce("orders", "events", all.clone()).await;
    let other = shop.world.namespace("other").await.unwrap();
    let retry = json!({ "maxAttempts": 100, "backoff": { "type": "Fixed", "delay": "2s" }, "jitterPercent": 0 });
    for (name, kind) in [("steady", "a"), ("retrying", "b")] {
        let spec = json!({ "delivery": { "retry": retry } });
        shop.subscribe(name, &[kind], spec.clone()).await;
        let mut foreign = shop.subscription(&format!("foreign-{name}"), &[kind], spec);
        foreign["metadata"]["namespace"] = json!(other);
        foreign["spec"]["producerRef"]["namespace"] = json!(shop.namespace);
        shop.world.control_plane.apply_json(&foreign).await.unwrap();
        shop.world.wait_ready(&other, "subscriptions", &format!("foreign-{name}")).await.unwrap();
    }
    let (steady, retrying) = (["steady", "foreign-steady"], ["retrying", "foreign-retrying"]);
    for name in retrying {
        shop.receiver.answer(&format!("/{name}"), Answer::status(500));
    }
    for n in 0..5 {
        shop.publish(&shop.event("a", format!("{n}"))).await;
    }
    shop.publish(&shop.event("b", "{}")).await;
    let mut first = Vec::new();
    for name in retrying {
        first.push(shop.requests(name, 1).await[0].webhook_id().to_owned());
    }
    for name in steady {
        shop.requests(name, 5).await;
    }
    shop.all_acked(SOON).await;
    let before = shop.producer().await;

    let delete = ["delete", "producers.hookwright.dev/orders", "-n", &shop.namespace, TIMEOUT];
    shop.world.control_plane.kubectl(&delete).await.unwrap();
    let is_shut_out = |status: &Value| condition(status, "ResolvedRefs")["reason"] == "RefNotPermitted";
    shop.world.wait_status(&other, "foreign-steady", "shut out", SOON, is_shut_out).await.unwrap();
    for n in 5..8 {
        shop.publish(&shop.event("a", format!("{n}"))).await;
    }
    for name in retrying {
        shop.receiver.answer(&format!("/{name}"), Answer::status(200));
    }
    shop.produce("orders", "events", all).await;
    assert_ne!(shop.producer().await, before);
    for (name, first) in retrying.iter().zip(&first) {
        wait_for("the retry to succeed", SOON, async || {
            let done = shop.deliveries(&format!("/{name}"));
            anyhow::ensure!(done.get(first) == Some(&1), "{name}: {done:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
    for name in steady {
        shop.requests(name, 8).await;
    }
    shop.all_acked(SOON).await;
    for name in steady {
        let delivered = shop.deliveries(&format!("/{name}"));
        assert!(delivered.len() == 8 && delivered.values().all(|n| *n == 1), "{name}: {delivered:?}");
    }

    // One that lets nobody else in has nothing for them.
    shop.world.control_plane.kubectl(&delete).await.unwrap();
    shop.publish(&shop.event("a", "8")).await;
    shop.produce("orders", "events", json!({})).await;
    shop.requests("steady", 9).await;
    shop.all_acked(SOON).await;
    assert_eq!(shop.receiver.count("/foreign-steady"), 8);
}

/// Has a world of its own: it takes NATS away.
#[tokio::test]
async fn deleting_while_nats_is_down_does_not_hang_and_leaves_nothing_live() {
    let _machine = beside().await;
    let options = Options { operator: json!({ "finalizerTimeout": "6s" }), ..Options::default() };
    let world = World::start(options).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let uid = shop.subscribe("doomed", &[">"], json!({})).await;
    shop.subscribe("other", &[">"], json!({})).await;
    for (name, policy) in [("kept", "Retain"), ("gone", "Delete")] {
        shop.produce(name, name, json!({ "stream": { "deletionPolicy": policy } })).await;
    }
    world.nats.kill9().unwrap();
    // Longer than the finalizers wait, and much less than they do by default.
    let delete = ["delete", "subscription.hookwright.dev/doomed", "-n", &shop.namespace, TIMEOUT];
    world.control_plane.kubectl(&delete).await.unwrap();
    let delete = ["delete", "producers.hookwright.dev", "kept", "gone", "-n", &shop.namespace, TIMEOUT];
    world.control_plane.kubectl(&delete).await.unwrap();
    wait_for("a Warning", SOON, async || {
        let events = world.control_plane.kubectl(&["get", "events.events.k8s.io", "-n", &shop.namespace]).await?;
        anyhow::ensure!(events.contains("Warning"), "{events}");
        Ok(())
    })
    .await
    .unwrap();

    world.nats.restart().await.unwrap();
    wait_for("the record to be gone", SOON, async || {
        let keys = config_keys(&world, &uid).await?;
        anyhow::ensure!(keys == [format!("deleted.{uid}")], "{keys:?}");
        Ok(())
    })
    .await
    .unwrap();
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    wait_for("what the Producers left to be gone", SOON, async || {
        let gone = jetstream.get_stream(format!("{}_gone", shop.namespace)).await;
        let kept = jetstream.get_stream(format!("{}_kept", shop.namespace)).await?;
        let consumers = kept.cached_info().state.consumer_count;
        anyhow::ensure!(gone.is_err() && consumers == 0, "{consumers} consumers");
        Ok(())
    })
    .await
    .unwrap();
    let event = Event::new(format!("{}.events.x", shop.namespace), "{}").message_id("after");
    shop.publisher.publish_through_faults(&event, SOON).await.unwrap();
    shop.requests("other", 1).await;
    assert_eq!(shop.receiver.count("/doomed"), 0);
}

/// The live keys of the config bucket that have this uid in them.
async fn config_keys(world: &World, uid: &str) -> anyhow::Result<Vec<String>> {
    let jetstream = world.nats.jetstream(User::Admin).await?;
    let bucket = jetstream.get_key_value(hookwright_core::nats::names::CONFIG_BUCKET).await?;
    let keys: Vec<String> = futures::TryStreamExt::try_collect(bucket.keys().await?).await?;
    Ok(keys.into_iter().filter(|key| key.contains(uid)).collect())
}
