//! Kubernetes and NATS as of different moments: NATS is restored from a backup, whole or in part.

use std::path::{Path, PathBuf};
use std::process::Command;

use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey, STATE_BUCKET, STREAM_DONE, checkpoint_key};
use hookwright_core::record::{self, Checkpoint};
use hookwright_e2e::{Component, Options, User, World, wait_for};
use serde_json::{Value, json};

use crate::corners::each_arrived;
use crate::shop::{SOON, Shop, TIMEOUT, beside};

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Stops everything that uses NATS, and NATS; lets `change` change its data; and starts all again.
async fn while_stopped(world: &World, change: impl FnOnce(&Path)) {
    let dispatchers = world.dispatchers.iter().map(|dispatcher| -> &Component { dispatcher });
    let all: Vec<&Component> = dispatchers.chain([&*world.operator as &Component]).collect();
    for component in &all {
        component.terminate().await.unwrap();
    }
    for server in world.nats.servers() {
        server.terminate().await.unwrap();
    }
    change(&world.folder().join("nats/nats-1/store"));
    world.nats.restart().await.unwrap();
    for component in &all {
        component.restart().unwrap();
    }
    for component in &all {
        component.wait_ready(SOON).await.unwrap();
    }
}

/// The folder of a stream below that of the server's data.
fn folder_of(stream: &str, store: &Path) -> PathBuf {
    let found = Command::new("find").arg(store).args(["-type", "d", "-path", &format!("*/streams/{stream}")]).output();
    PathBuf::from(String::from_utf8(found.unwrap().stdout).unwrap().trim())
}

/// Waits until the checkpoint of the Producer `orders` is there.
async fn checkpoint(shop: &Shop<'_>, floor: u64) {
    let bucket = shop.world.nats.jetstream(User::Admin).await.unwrap().get_key_value(STATE_BUCKET).await.unwrap();
    let key = checkpoint_key(&shop.producer().await);
    wait_for(&format!("a checkpoint at {floor}"), SOON, async || {
        let found: Checkpoint = record::decode(&bucket.get(&key).await?.unwrap_or_default())?;
        anyhow::ensure!(found.ack_floor == floor, "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// The record of a Subscription to `orders`, if there is one.
async fn record(shop: &Shop<'_>, uid: &str) -> anyhow::Result<Value> {
    let bucket = shop.world.nats.jetstream(User::Admin).await?.get_key_value(CONFIG_BUCKET).await?;
    let key = ConfigKey::Subscription(shop.producer().await, uid.to_owned().try_into()?).to_string();
    let found = bucket.get(&key).await?;
    Ok(found.map(|value| serde_json::from_slice(&value)).transpose()?.unwrap_or_default())
}

#[tokio::test]
async fn what_is_restored_from_another_moment_loses_nothing_that_comes_later() {
    let _machine = beside().await;
    let world = World::start(Options { servers: 1, operator: json!({ "orphanGrace": "4s" }), ..Options::default() });
    let world = world.await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let kept = shop.subscribe("kept", &[">"], json!({})).await;
    let deleted = shop.subscribe("deleted", &[">"], json!({})).await;
    let paused = async |suspend: bool| drop(shop.subscribe("paused", &[">"], json!({ "suspend": suspend })).await);
    paused(true).await;
    let publish = async |events: std::ops::Range<usize>| {
        for n in events {
            shop.publish(&shop.event("a", n.to_string())).await;
        }
    };
    publish(0..10).await;
    shop.requests("kept", 10).await;
    checkpoint(&shop, 10).await;
    let backup = world.folder().join("backup");
    while_stopped(&world, |store| copy(store, &backup)).await;

    // The Producer's stream alone is of that moment. The sequences after it go to other events than before, the first of
    // them before the consumer is there again; and one Subscription has its place in them.
    publish(10..15).await;
    shop.requests("kept", 15).await;
    paused(false).await;
    shop.requests("paused", 15).await;
    paused(true).await;
    publish(15..16).await;
    checkpoint(&shop, 16).await;
    let stream = format!("{}_orders", shop.namespace);
    while_stopped(&world, |store| copy(&folder_of(&stream, &backup), &folder_of(&stream, store))).await;
    world.operator.terminate().await.unwrap();
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let consumer = shop.consumer().await.unwrap();
    jetstream.get_stream(&stream).await.unwrap().delete_consumer(&consumer.name).await.unwrap();
    publish(20..25).await;
    world.operator.restart().unwrap();
    each_arrived(&shop, "/kept", 20..25).await;
    checkpoint(&shop, 15).await;
    paused(false).await;
    each_arrived(&shop, "/paused", 20..25).await;

    // All of NATS is of that moment, and the objects are of a later one.
    let edit = json!({ "endpoint": { "url": shop.receiver.url("/edited") } });
    shop.subscribe("kept", &[">"], edit).await;
    let new = shop.subscribe("new", &[">"], json!({})).await;
    let delete = ["delete", "subscriptions.hookwright.dev/deleted", "-n", &shop.namespace, TIMEOUT];
    world.control_plane.kubectl(&delete).await.unwrap();
    while_stopped(&world, |store| copy(&backup, store)).await;
    wait_for("the records to follow the objects", SOON, async || {
        let generation = record(&shop, &kept).await?["identity"]["generation"].clone();
        let (new, deleted) = (record(&shop, &new).await?, record(&shop, &deleted).await?);
        anyhow::ensure!(generation == 2 && !new.is_null() && deleted.is_null(), "{generation}, {new}, {deleted}");
        Ok(())
    })
    .await
    .unwrap();
    crate::shop::all_loaded(&world).await;
    let before = ["kept", "deleted"].map(|name| shop.receiver.count(&format!("/{name}")));
    publish(30..35).await;
    shop.requests("edited", 5).await;
    shop.requests("new", 5).await;
    shop.all_acked(SOON).await;
    assert_eq!(["kept", "deleted"].map(|name| shop.receiver.count(&format!("/{name}"))), before);

    // The Producer was deleted, and the API server's data are of a moment before that: it is there with the same uid.
    world.operator.terminate().await.unwrap();
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let live = jetstream.get_stream(&stream).await.unwrap();
    let mut config = live.cached_info().config.clone();
    config.metadata.insert(STREAM_DONE.to_owned(), "15".to_owned());
    jetstream.update_stream(&config).await.unwrap();
    live.delete_consumer(&consumer.name).await.unwrap();
    let state = jetstream.get_key_value(STATE_BUCKET).await.unwrap();
    state.purge(checkpoint_key(&shop.producer().await)).await.unwrap();
    publish(35..36).await;
    world.operator.restart().unwrap();
    each_arrived(&shop, "/edited", 35..36).await;
    shop.all_acked(SOON).await;
    assert_eq!(shop.receiver.count("/edited"), 6);
}
