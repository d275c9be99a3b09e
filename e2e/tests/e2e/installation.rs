//! Whose the streams and buckets in a NATS account are.

use std::collections::BTreeMap;

use anyhow::Context;
use futures::TryStreamExt;
use hookwright_core::nats::names::{CONFIG_BUCKET, INSTALLATION_KEY, LEASES_BUCKET, former_key};
use hookwright_core::sign::hmac::{SigningKey, signature_header};
use hookwright_e2e::{Answer, ControlPlane, Dispatcher, Event, Operator, Options, User, World, wait_for, workspace};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::corners::{each_arrived, publish_until, receipts};
use crate::shop::{SOON, Shop, TIMEOUT, beside, fixed, merge, metric};

/// The last sequence of each stream but the leases.
async fn sequences(world: &World) -> BTreeMap<String, u64> {
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let leases = format!("KV_{LEASES_BUCKET}");
    let all: Vec<_> = jetstream.streams().try_collect().await.unwrap();
    let numbers = all.into_iter().map(|info| (info.config.name, info.state.last_sequence));
    numbers.filter(|(name, _)| *name != leases).collect()
}

#[tokio::test]
async fn an_operator_of_another_cluster_writes_nothing() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    shop.publish(&shop.event("a", "1")).await;
    shop.requests("all", 1).await;

    let folder = world.folder().join("another");
    let another = ControlPlane::start(&world.tools, &folder).await.unwrap();
    let spec: Value = json!({ "subjects": ["other.events.>"] });
    for object in [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "other" } }),
        json!({
            "apiVersion": "hookwright.dev/v1alpha1", "kind": "Producer",
            "metadata": { "name": "orders", "namespace": "other" }, "spec": spec,
        }),
    ] {
        another.apply_json(&object).await.unwrap();
    }
    let kubeconfig = another.operator_kubeconfig().await.unwrap();
    // The first operator is away, so nothing else writes.
    assert!(world.operator.terminate().await.unwrap().success());
    shop.all_acked(SOON).await;
    let before = sequences(&world).await;
    let patch = json!({ "orphanGrace": "1s" });
    let foreign = Operator::spawn(&folder, &world.nats, &world.sealing, kubeconfig, &patch).unwrap();
    wait_for("the other cluster's operator to refuse", SOON, async || {
        let (status, said) = foreign.get("/readyz").await?;
        anyhow::ensure!(status == 503 && said.contains("of another Kubernetes cluster"), "{status} {said}");
        anyhow::ensure!(metric(&foreign.metrics().await?, "operator_foreign_installation") == 1);
        Ok(())
    })
    .await
    .unwrap();
    assert!(foreign.logs().contains("give this cluster a NATS account of its own"), "{}", foreign.logs());
    assert_eq!(sequences(&world).await, before);
    let untouched = another.get("other", "producers", "orders").await.unwrap();
    assert!(
        untouched["status"]["conditions"].is_null() && untouched["metadata"]["finalizers"].is_null(),
        "{untouched}"
    );

    // The cluster whose installation it is goes on, with the operator of the other one still there.
    world.operator.restart().unwrap();
    world.operator.wait_ready(SOON).await.unwrap();
    shop.publish(&shop.event("a", "2")).await;
    shop.requests("all", 2).await;
    assert_eq!(shop.deliveries("/all").values().copied().collect::<Vec<_>>(), [1, 1]);
    assert_eq!(foreign.get("/readyz").await.unwrap().0, 503);
}

/// The object as a repository has it, without what the API server adds.
fn bare(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let kept = json!({ "name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata["labels"] });
    let mut bare = json!({ "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": kept });
    for field in ["spec", "data", "type"] {
        if !object[field].is_null() {
            bare[field] = object[field].clone();
        }
    }
    bare
}

/// NATS is kept, the cluster is new, and everything is applied again, while events come in.
#[tokio::test]
async fn a_cluster_that_is_built_anew_takes_over_what_there_is() {
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let retry = json!({ "maxAttempts": 100, "backoff": { "type": "Fixed", "delay": "3s" }, "jitterPercent": 0 });
    shop.receiver.answer("/gone", Answer::status(410));
    shop.receiver.answer("/retrying", Answer::status(500));
    let names = ["all", "gone", "retrying"];
    shop.subscribe("all", &["a"], json!({})).await;
    shop.subscribe("gone", &["gone"], json!({})).await;
    shop.subscribe("retrying", &["retried"], json!({ "delivery": { "retry": retry } })).await;
    shop.publish(&shop.event("gone", "1")).await;
    shop.publish(&shop.event("retried", "1")).await;
    shop.status("gone", "Inactive", |status| status["health"] == "Inactive").await;
    let waiting = shop.requests("retrying", 1).await[0].webhook_id().to_owned();
    let secret = world.signing_secret(&shop.namespace, "all").await.unwrap();
    let counted = |status: &Value| status["delivery"]["delivered"].as_i64().is_some_and(|n| n >= 100);

    let (stop, folder) = (CancellationToken::new(), world.folder().join("new"));
    let rebuild = async {
        shop.status("all", "counted", counted).await;
        let mut objects = vec![world.control_plane.get(&shop.namespace, "producers", "orders").await.unwrap()];
        for name in names {
            let plane = &world.control_plane;
            objects.push(plane.get(&shop.namespace, "secrets", &format!("{name}-signing")).await.unwrap());
            objects.push(plane.get(&shop.namespace, "subscriptions", name).await.unwrap());
        }
        world.operator.kill9().unwrap();
        let new = ControlPlane::start(&world.tools, &folder).await.unwrap();
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": shop.namespace } });
        new.apply_json(&namespace).await.unwrap();
        let record = installation(&world).await.unwrap();
        let kubeconfig = new.operator_kubeconfig().await.unwrap();
        let patch = json!({ "installation": { "takeOver": record["id"] } });
        let operator = Operator::spawn(&folder, &world.nats, &world.sealing, kubeconfig, &patch).unwrap();
        operator.wait_ready(SOON).await.unwrap();
        for object in &objects {
            new.apply_json(&bare(object)).await.unwrap();
        }
        new.wait_ready(&shop.namespace, "producers", "orders", SOON).await.unwrap();
        for name in names {
            new.wait_ready(&shop.namespace, "subscriptions", name, SOON).await.unwrap();
        }
        let before = shop.receiver.count("/all");
        shop.receiver.wait_count("/all", before + 200, SOON).await.unwrap();
        // The setting is still there, and does nothing more.
        operator.restart().unwrap();
        operator.wait_ready(SOON).await.unwrap();
        let is_counted = |object: &Value| counted(&object["status"]);
        new.wait_until(&shop.namespace, "subscriptions", "all", "counted", SOON, is_counted).await.unwrap();
        let inactive = |object: &Value| object["status"]["health"] == "Inactive";
        new.wait_until(&shop.namespace, "subscriptions", "gone", "Inactive", SOON, inactive).await.unwrap();
        shop.publish(&shop.event("gone", "2")).await;
        stop.cancel();
        (new, operator)
    };
    let (published, (new, operator)) = tokio::join!(publish_until(&shop, "a", &stop), rebuild);
    each_arrived(&shop, "/all", 0..published).await;
    shop.all_acked(SOON).await;
    let twice = receipts(&shop, "/all").values().filter(|n| **n > 1).count();
    println!("{published} events while the cluster was built anew: 0 lost, {twice} twice");
    assert_eq!(twice, 0);
    assert_eq!(shop.receiver.count("/gone"), 1, "what is disabled stays so");
    let last = shop.receiver.requests("/all").last().unwrap().clone();
    let key = SigningKey::parse(&secret).unwrap();
    let signature =
        signature_header(&[key], last.webhook_id(), last.header("webhook-timestamp").parse().unwrap(), &last.body);
    assert_eq!(last.header("webhook-signature"), signature, "the restored key signs");
    shop.receiver.answer("/retrying", Answer::status(200));
    wait_for("what waited to come with its id", SOON, async || {
        let done = shop.deliveries("/retrying");
        anyhow::ensure!(done.keys().collect::<Vec<_>>() == [&waiting], "{done:?}");
        Ok(())
    })
    .await
    .unwrap();
    // The former uids outlive a loss of the bucket that has them.
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    jetstream.delete_stream(format!("KV_{CONFIG_BUCKET}")).await.unwrap();
    let key = former_key("Subscription", &shop.namespace, "all");
    wait_for("the former uid to be there again", SOON, async || {
        let former = jetstream.get_key_value(CONFIG_BUCKET).await?.get(&key).await?;
        anyhow::ensure!(former.is_some());
        Ok(())
    })
    .await
    .unwrap();
    assert!(operator.terminate().await.unwrap().success());
    drop(new);
}

/// Everything in NATS is lost, and the cluster is there. The installation stays what it was.
#[tokio::test]
async fn an_empty_nats_is_filled_again() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    shop.publish(&shop.event("a", "1")).await;
    shop.requests("all", 1).await;
    let before = installation(&world).await.unwrap();
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let all: Vec<_> = jetstream.streams().try_collect().await.unwrap();
    for stream in all {
        jetstream.delete_stream(stream.config.name).await.unwrap();
    }
    wait_for("the installation to be there again", SOON, async || {
        anyhow::ensure!(installation(&world).await? == before);
        Ok(())
    })
    .await
    .unwrap();
    wait_for("the records to be there again", 2 * SOON, async || {
        let bucket = world.nats.jetstream(User::Admin).await?.get_key_value(CONFIG_BUCKET).await?;
        let keys: Vec<String> = bucket.keys().await?.try_collect().await?;
        anyhow::ensure!(keys.iter().any(|key| key.starts_with("subscription.")), "{keys:?}");
        Ok(())
    })
    .await
    .unwrap();
    // Publishing works once the Producer's stream is there again.
    let event = shop.event("a", "2").message_id("2");
    shop.publisher.publish_through_faults(&event, SOON).await.unwrap();
    shop.requests("all", 2).await;

    // Definitions that are rolled back end the operator, and it begins again once they are as new as it is.
    let definition = "customresourcedefinitions/subscriptions.hookwright.dev";
    let suspend = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/suspend";
    let patch = json!([{ "op": "remove", "path": suspend }]).to_string();
    let plane = &world.control_plane;
    plane.kubectl(&["patch", definition, "--type=json", "-p", &patch]).await.unwrap();
    wait_for("the operator to end", SOON, async || {
        anyhow::ensure!(world.operator.get("/readyz").await.is_err());
        Ok(())
    })
    .await
    .unwrap();
    world.operator.restart().unwrap();
    wait_for("the operator to refuse", SOON, async || {
        let (status, said) = world.operator.get("/readyz").await?;
        anyhow::ensure!(status == 503 && said.contains("it lacks spec.suspend"), "{status} {said}");
        Ok(())
    })
    .await
    .unwrap();
    let definitions = workspace().join("crds/yaml").to_string_lossy().into_owned();
    plane.kubectl(&["apply", "-f", &definitions]).await.unwrap();
    world.operator.wait_ready(SOON).await.unwrap();
}

/// The record of the installation.
async fn installation(world: &World) -> anyhow::Result<Value> {
    let bucket = world.nats.jetstream(User::Admin).await?.get_key_value(CONFIG_BUCKET).await?;
    let record = bucket.get(INSTALLATION_KEY).await?.context("no installation")?;
    Ok(serde_json::from_slice(&record)?)
}

/// The keys of Subscriptions in a bucket.
async fn subscriptions(world: &World, bucket: &str) -> usize {
    let bucket = world.nats.jetstream(User::Admin).await.unwrap().get_key_value(bucket).await.unwrap();
    let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
    keys.iter().filter(|key| key.starts_with("subscription.")).count()
}

/// Two clusters have objects of the same names, and share an account: one of them has a prefix, and users whose rights end
/// at its own names. Each removes at once what belongs to none of its objects.
#[tokio::test]
async fn installations_side_by_side_leave_each_other_alone() {
    let _machine = beside().await;
    let at_once = json!({ "orphanGrace": "1s" });
    let world = World::start(Options { operator: at_once.clone(), ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    shop.publish(&shop.event("a", "1")).await;
    shop.requests("all", 1).await;

    let (folder, namespace) = (world.folder().join("second"), &shop.namespace);
    let second = ControlPlane::start(&world.tools, &folder).await.unwrap();
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
    second.apply_json(&object).await.unwrap();
    let settings = |user: &str, more: &Value| {
        let nats = json!({ "user": format!("eu_{user}"), "inboxPrefix": format!("_INBOX_eu_{user}") });
        let mut settings = json!({ "installation": { "prefix": "eu" }, "nats": nats });
        merge(&mut settings, more.clone());
        settings
    };
    let (kubeconfig, patch) = (second.operator_kubeconfig().await.unwrap(), settings("operator", &at_once));
    let operator = Operator::spawn(&folder, &world.nats, &world.sealing, kubeconfig, &patch).unwrap();
    let patch = settings("dispatcher", &json!({}));
    let dispatcher = Dispatcher::spawn(&folder, "dispatcher", &world.nats, &world.sealing, &patch).unwrap();
    operator.wait_ready(SOON).await.unwrap();
    dispatcher.wait_ready(SOON).await.unwrap();
    let subject = |kind: &str| format!("{namespace}.eu.{kind}");
    second
        .apply_json(&json!({
            "apiVersion": "hookwright.dev/v1alpha1",
            "kind": "Producer",
            "metadata": { "name": "orders", "namespace": namespace },
            "spec": {
                "subjects": [subject(">")],
                "stream": { "name": format!("{namespace}_eu"), "replicas": world.nats.replicas() },
                "eventType": { "stripPrefix": subject("") },
            },
        }))
        .await
        .unwrap();
    second.wait_ready(namespace, "producers", "orders", SOON).await.unwrap();
    let path = |name: &str| shop.receiver.url(&format!("/eu/{name}"));
    for (name, kind) in [("all", "a"), ("retried", "b"), ("gone", "c")] {
        let mut spec = fixed("1s");
        merge(&mut spec, json!({ "endpoint": { "url": path(name) } }));
        second.apply_json(&shop.subscription(name, &[kind], spec)).await.unwrap();
        second.wait_ready(namespace, "subscriptions", name, SOON).await.unwrap();
    }

    // Deliveries, retries, dead letters, what a 410 disables, counts, and a test delivery.
    shop.receiver.answer("/eu/retried", Answer::status(500));
    shop.receiver.answer("/eu/gone", Answer::status(410));
    for kind in ["a", "b", "c"] {
        shop.publish(&Event::new(subject(kind), "{}")).await;
        shop.publish(&shop.event(kind, "{}")).await;
    }
    shop.receiver.wait_count("/eu/retried", 2, SOON).await.unwrap();
    shop.receiver.answer("/eu/retried", Answer::status(200));
    let delivered = |object: &Value| object["status"]["delivery"]["delivered"] == 1;
    for name in ["all", "retried"] {
        second.wait_until(namespace, "subscriptions", name, "one delivered", SOON, delivered).await.unwrap();
    }
    let inactive = |object: &Value| object["status"]["health"] == "Inactive";
    second.wait_until(namespace, "subscriptions", "gone", "Inactive", SOON, inactive).await.unwrap();
    second
        .kubectl(&["annotate", "subscriptions.hookwright.dev/all", "-n", namespace, "hookwright.dev/send-test=1"])
        .await
        .unwrap();
    shop.receiver.wait_count("/eu/all", 2, SOON).await.unwrap();
    shop.requests("all", 4).await;
    shop.all_acked(SOON).await;
    assert_eq!((shop.receiver.count("/all"), shop.receiver.count("/eu/all")), (4, 2));

    // All of it is in the streams of the one with the prefix.
    let streams = sequences(&world).await;
    let with = |prefix: &str| streams.keys().filter(|name| name.contains(prefix)).count();
    assert_eq!((with("HOOKWRIGHT_EU_"), with("HOOKWRIGHT_")), (8, 15), "{streams:?}");
    for name in ["PARKED", "DEAD_LETTERS"] {
        let last = |prefix: &str| streams[&format!("HOOKWRIGHT_{prefix}{name}")];
        assert!(last("") == 0 && last("EU_") > 0, "{streams:?}");
    }
    assert_eq!(subscriptions(&world, CONFIG_BUCKET).await, 1);
    assert_eq!(subscriptions(&world, "HOOKWRIGHT_EU_CONFIG").await, 3);

    // What the one has goes, and the other goes on.
    second.kubectl(&["delete", "producers.hookwright.dev", "--all", "-n", namespace, TIMEOUT]).await.unwrap();
    shop.publish(&shop.event("a", "5")).await;
    shop.requests("all", 5).await;
    assert_eq!(subscriptions(&world, CONFIG_BUCKET).await, 1);
}
