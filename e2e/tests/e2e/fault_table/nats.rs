//! Dispatchers and NATS: kills, cuts, restarts, consumers and streams that somebody changes.

use std::time::{Duration, Instant};

use anyhow::ensure;
use async_nats::jetstream::consumer::{FromConsumer, pull};
use async_nats::jetstream::stream::Stream;
use futures::TryStreamExt;
use hookwright_e2e::{Answer, Dispatcher, Gate, Mode, Proxy, User, by_length, is_long, wait_for};
use tokio::time::sleep;

use super::table::{IN_FLIGHT, QUIET, Table, row};
use crate::shop::{SOON, Shop};

async fn stream(shop: &Shop<'_>) -> anyhow::Result<Stream> {
    let jetstream = shop.world.nats.jetstream(User::Admin).await?;
    Ok(jetstream.get_stream(format!("{}_orders", shop.namespace)).await?)
}

/// Waits until the shared consumer is as the operator wants it. Returns how long that took.
async fn right(shop: &Shop<'_>) -> anyhow::Result<String> {
    let start = Instant::now();
    wait_for("the consumer to be right", SOON, async || {
        let consumer = shop.consumer().await?;
        let (pending, paused) = (consumer.config.max_ack_pending, consumer.paused);
        ensure!(pending == 50_000 && !paused, "max_ack_pending {pending}, paused {paused}");
        Ok(())
    })
    .await?;
    let took = start.elapsed();
    ensure!(!is_long() || took < Duration::from_secs(30), "right after {took:?}");
    Ok(format!("right after {:.1} s", took.as_secs_f64()))
}

/// `proxied` reaches NATS through the proxy, and the world's dispatcher directly.
pub(super) async fn faults(table: &mut Table<'_>, proxy: &Proxy, proxied: &Dispatcher) {
    let shop = table.shop;
    let direct = &shop.world.dispatchers[0];
    let kills = by_length(2, 5);
    let killed =
        row(7, "a dispatcher is killed every few seconds", "twice <= kills x in flight", (kills * IN_FLIGHT, 10));
    table
        .hold(killed, async {
            for _ in 0..kills {
                direct.kill9()?;
                direct.restart()?;
                direct.wait_ready(SOON).await?;
                sleep(Duration::from_secs(2)).await;
            }
            Ok(format!("{kills} kills"))
        })
        .await;
    let expected = "the same ids again";
    let cut = row(8, "a dispatcher is cut off from NATS after the 2xx, before the ack", expected, (2 * IN_FLIGHT, 15));
    table.hold(cut, cut_before_the_ack(shop, proxy, proxied)).await;
    let restarted = row(9, "NATS is killed and starts again", "goes on within 10 s", (4 * IN_FLIGHT, 10));
    table
        .hold(restarted, async {
            shop.world.nats.kill9()?;
            shop.world.nats.restart().await?;
            Ok(String::new())
        })
        .await;
    let deleted =
        row(10, "the consumer is deleted", "there again within 30 s, nothing from the start", (2 * IN_FLIGHT, 30));
    table
        .hold(deleted, async {
            let consumer = shop.consumer().await?;
            stream(shop).await?.delete_consumer(&consumer.name).await?;
            right(shop).await
        })
        .await;
    let edited = row(10, "the consumer is edited and paused", "right again within 30 s", (2 * IN_FLIGHT, 30));
    table
        .hold(edited, async {
            let (consumer, stream) = (shop.consumer().await?, stream(shop).await?);
            let config = pull::Config::try_from_consumer_config(consumer.config.clone()).unwrap();
            let config = pull::Config { max_ack_pending: 1, ..config };
            stream.update_consumer(config).await?;
            let hour = async_nats::datetime::DateTime::now_utc() + Duration::from_secs(3600);
            stream.pause_consumer(&consumer.name, hour).await?;
            right(shop).await
        })
        .await;
    if is_long() {
        slower(table, proxy, proxied).await;
    }
}

/// Answers that are on their way when the connection to NATS is cut reach a dispatcher that can't ack.
async fn cut_before_the_ack(shop: &Shop<'_>, proxy: &Proxy, proxied: &Dispatcher) -> anyhow::Result<String> {
    let mut held = 0;
    for _ in 0..2 {
        let (gate, before) = (Gate::closed(), shop.receiver.count("/all"));
        shop.receiver.answer("/all", Answer::status(200).once_open(&gate));
        // Few: nothing is answered meanwhile, so a lane opens no wider.
        shop.receiver.wait_count("/all", before + 4, SOON).await?;
        proxy.set(Mode::Cut);
        held += shop.receiver.count("/all") - before;
        shop.receiver.answer("/all", Answer::status(200));
        gate.open();
        sleep(Duration::from_secs(1)).await;
        proxy.set(Mode::Pass);
        proxied.wait_ready(SOON).await?;
    }
    Ok(format!("2 cuts, {held} answers on their way"))
}

/// The faults that take longer.
async fn slower(table: &mut Table<'_>, proxy: &Proxy, proxied: &Dispatcher) {
    let (shop, world) = (table.shop, table.shop.world);
    let direct = &world.dispatchers[0];
    let late = row(8, "a dispatcher's packets to and from NATS are 300 ms late", "", (IN_FLIGHT, 10));
    table
        .hold(late, async {
            proxy.set(Mode::Delay(Duration::from_millis(300)));
            sleep(Duration::from_secs(10)).await;
            proxy.set(Mode::Pass);
            Ok(String::new())
        })
        .await;
    let half_open = row(8, "a dispatcher's connections to NATS are half open", "", (2 * IN_FLIGHT, 20));
    table
        .hold(half_open, async {
            proxy.set(Mode::HalfOpen);
            sleep(Duration::from_secs(12)).await;
            proxy.set(Mode::Pass);
            proxied.wait_ready(SOON).await?;
            Ok(String::new())
        })
        .await;
    let frozen = row(7, "a dispatcher is stopped (SIGSTOP) past its lease", "", (2 * IN_FLIGHT, 15));
    table
        .hold(frozen, async {
            direct.freeze()?;
            sleep(Duration::from_secs(10)).await;
            direct.thaw()?;
            direct.wait_ready(SOON).await?;
            Ok(String::new())
        })
        .await;
    let purged = row(10, "the stream is purged of what is done", "no event from before comes again", QUIET);
    table
        .hold(purged, async {
            let floor = shop.consumer().await?.ack_floor.stream_sequence;
            let purged = stream(shop).await?.purge().sequence(floor).await?.purged;
            Ok(format!("{purged} events removed"))
        })
        .await;
    // What the stream had is delivered first: nobody can deliver what was deleted with it.
    shop.all_acked(SOON).await;
    let replaced = replace_stream(shop).await;
    let fault = "the stream was created again, with sequences from 1";
    table.hold(row(10, fault, "the Producer says StreamReplaced", (IN_FLIGHT, 30)), async { replaced }).await;
}

async fn replace_stream(shop: &Shop<'_>) -> anyhow::Result<String> {
    let before = stream(shop).await?.cached_info().created;
    let jetstream = shop.world.nats.jetstream(User::Admin).await?;
    let name = format!("{}_orders", shop.namespace);
    jetstream.delete_stream(&name).await?;
    let start = Instant::now();
    wait_for("the stream to be there again", SOON, async || {
        let all: Vec<_> = jetstream.streams().try_collect().await?;
        ensure!(all.iter().any(|info| info.config.name == name && info.created != before));
        Ok(())
    })
    .await?;
    let took = start.elapsed().as_secs_f64();
    let told =
        |object: &serde_json::Value| crate::shop::condition(&object["status"], "StreamReplaced")["status"] == "True";
    let plane = &shop.world.control_plane;
    plane.wait_until(&shop.namespace, "producers", "orders", "StreamReplaced", SOON, told).await?;
    Ok(format!("there again after {took:.1} s, told"))
}
