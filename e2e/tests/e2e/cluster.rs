//! A cluster of three NATS servers, each stream on all of them. One server after the other fails under load, and nothing
//! that NATS acknowledged may be lost. The long form fails more streams' leaders and judges how long that is felt: it
//! wants a quiet machine.

mod mirror;
mod stale;

use std::time::Duration;

use hookwright_core::nats::names::{CONFIG_BUCKET, DEAD_LETTER_STREAM, LEASES_BUCKET, PARKED_STREAM, STATE_BUCKET};
use hookwright_e2e::{Answer, Nats, NatsServer, Options, Publisher, World, by_length, is_long, report, wait_for};
use serde_json::json;
use tokio::time::sleep;

use crate::faults::{ENDPOINTS, Load};
use crate::sharing::refused;
use crate::shop::{SOON, Shop, beside, fixed};

const SERVERS: usize = 3;
/// What dispatchers have under way for the three endpoints at most, by their default settings.
const IN_FLIGHT: usize = 3 * 64;

fn rate() -> u64 {
    by_length(50, 200)
}

async fn world() -> World {
    World::start(Options { dispatchers: 2, servers: SERVERS, ..Options::default() }).await.unwrap()
}

/// Another leader has to be elected, of streams and of consumers.
#[tokio::test]
async fn killed_leaders_lose_nothing() {
    survive("leaders killed", Duration::from_secs(20), kill_leaders).await;
}

/// Clients that are connected to it have to notice.
#[tokio::test]
async fn a_server_that_is_cut_off_for_a_while_loses_nothing() {
    survive("a server cut off", Duration::from_secs(10), cut_off).await;
}

#[tokio::test]
async fn a_rolling_restart_of_the_servers_loses_nothing() {
    survive("all servers restarted one by one", Duration::from_secs(10), roll).await;
}

/// Lets `fault` happen under load. It gets the server that led the Producer's stream before.
async fn survive(what: &str, tolerated_silence: Duration, fault: impl AsyncFnOnce(&Shop<'_>, &NatsServer)) {
    let _machine = beside().await;
    let world = world().await;
    let shop = Shop::open(&world, json!({})).await;
    shop.receiver.fail_sometimes("/flaky", 0.2, Answer::status(503));
    for name in ENDPOINTS {
        shop.subscribe(name, &[">"], fixed("1s")).await;
    }
    // There are fewer servers than that.
    let subjects = json!([format!("{}.many.>", shop.namespace)]);
    let many = json!({ "subjects": subjects, "stream": { "replicas": 5 } });
    refused(&world, &shop.namespace, "many", many, "NatsLimitReached").await;
    world.nats.wait_current().await.unwrap();
    let leader = world.nats.leader(&events(&shop)).await.unwrap();
    let publisher = publisher_beside(&world.nats, leader).await;
    let load = Load::during(&shop, &publisher, rate(), fault(&shop, leader)).await;

    let duplicates = load.survived(&shop, what, tolerated_silence).await;
    shop.all_acked(SOON).await;
    report(&format!("{what}: {} events, 0 lost, {duplicates} duplicates", load.acknowledged.len()));
    assert!(!is_long() || duplicates <= 5 * IN_FLIGHT, "{duplicates} duplicates");
}

fn events(shop: &Shop<'_>) -> String {
    format!("{}_orders", shop.namespace)
}

/// A publisher that is connected to another server than this one.
async fn publisher_beside(nats: &Nats, avoided: &NatsServer) -> Publisher {
    let other = nats.servers().iter().find(|server| server.name() != avoided.name()).unwrap();
    nats.publisher_at(other).await.unwrap()
}

/// Kills the leader of each stream that matters. It comes back when another leads.
async fn kill_leaders(shop: &Shop<'_>, _: &NatsServer) {
    let buckets = [CONFIG_BUCKET, STATE_BUCKET, LEASES_BUCKET].map(|bucket| format!("KV_{bucket}"));
    let mut streams = vec![events(shop), PARKED_STREAM.to_owned(), DEAD_LETTER_STREAM.to_owned()];
    streams.extend(buckets);
    streams.truncate(by_length(2, streams.len()));
    let nats = &shop.world.nats;
    for stream in streams {
        let victim = nats.leader(&stream).await.unwrap();
        victim.kill9().unwrap();
        wait_for(&format!("another leader of {stream}"), SOON, async || {
            let leader = nats.leader(&stream).await?.name();
            anyhow::ensure!(leader != victim.name(), "{leader}");
            Ok(())
        })
        .await
        .unwrap();
        victim.restart().await.unwrap();
        nats.wait_current().await.unwrap();
        some_load(shop).await;
    }
}

/// Pauses the leader of the Producer's stream.
async fn cut_off(shop: &Shop<'_>, leader: &NatsServer) {
    leader.freeze().unwrap();
    sleep(by_length(Duration::from_secs(10), Duration::from_secs(20))).await;
    leader.thaw().unwrap();
    shop.world.nats.wait_current().await.unwrap();
    some_load(shop).await;
}

async fn roll(shop: &Shop<'_>, _: &NatsServer) {
    let nats = &shop.world.nats;
    for server in nats.servers() {
        server.terminate().await.unwrap();
        server.restart().await.unwrap();
        nats.wait_current().await.unwrap();
        some_load(shop).await;
    }
}

/// Waits until a few seconds' events more have been delivered.
async fn some_load(shop: &Shop<'_>) {
    let seconds = by_length(1, 5);
    let more = usize::try_from(rate() * seconds).unwrap();
    for name in ["one", "two"] {
        let path = format!("/{name}");
        shop.receiver.wait_count(&path, shop.receiver.count(&path) + more, 2 * SOON).await.unwrap();
    }
}
