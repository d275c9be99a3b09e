//! Faults one after the other, on real processes, each under 200 events/s: what each costs. `make faults` runs the long
//! form and prints the table. The short form has the faults that take a few seconds each.
//!
//! Other tests hold the rows that are no matter of a load: addresses, redirects, endless bodies, certificates and echoed
//! secrets (`egress`, `clients`), grants and Secrets (`sharing`, `secrets`), endpoints that hang or answer 410 and 429
//! (`retries`, `disabled`, `load`), deletions with a backlog (`lifecycle`), poison (`poison`) and a full disk (`storage`).

mod proxy;

use std::time::Duration;

use async_nats::jetstream::consumer::{FromConsumer, pull};
use async_nats::jetstream::stream::Stream;
use futures::TryStreamExt;
use hookwright_e2e::{Dispatcher, Options, User, World, by_length, is_long, report, wait_for};
use serde_json::json;
use tokio::time::sleep;

use crate::faults::{Load, count_duplicates, missing};
use crate::shop::{SOON, Shop, alone};
use proxy::{Mode, Proxy};

const RATE: u64 = 200;
/// What a dispatcher has under way for one endpoint at most, by its default settings.
const IN_FLIGHT: usize = 64;
/// How long everything may take to arrive; a delivery may be parked and come again.
const ARRIVAL: Duration = Duration::from_secs(120);

/// A row of the table.
struct Row {
    /// Its number in the list of faults.
    number: u32,
    fault: &'static str,
    /// How many deliveries may come twice.
    twice: usize,
    /// How long nothing may arrive. It is judged in the long form only, which has a machine for itself.
    silence: Duration,
}

const fn row(number: u32, fault: &'static str, twice: usize, silence: u64) -> Row {
    Row { number, fault, twice, silence: Duration::from_secs(silence) }
}

/// The table as it is filled.
struct Table<'w> {
    shop: &'w Shop<'w>,
    failed: Vec<&'static str>,
}

impl Table<'_> {
    /// Holds the load while the fault happens, and until it is over: 100 more events have arrived. Judges and prints.
    async fn hold(&mut self, row: Row, fault: impl Future<Output = ()>) {
        let (shop, before) = (self.shop, self.shop.receiver.count("/all"));
        let arrived = async |n: usize| drop(shop.receiver.wait_count("/all", n, ARRIVAL).await);
        let held = async {
            arrived(before + 100).await;
            fault.await;
            arrived(shop.receiver.count("/all") + 100).await;
        };
        let load = Load::during(shop, &shop.publisher, RATE, held).await;
        let requests = || shop.receiver.requests("/all").split_off(before);
        let all = wait_for("all to arrive", ARRIVAL, async || {
            let missing = missing(&requests(), &load.acknowledged).len();
            anyhow::ensure!(missing == 0, "{missing} are missing");
            Ok(())
        });
        drop(all.await);
        let requests = requests();
        let (lost, twice) = (missing(&requests, &load.acknowledged).len(), count_duplicates(&requests));
        let silence = load.longest_silence(&requests);
        let passed = lost == 0 && twice <= row.twice && (!is_long() || silence <= row.silence);
        if !passed {
            self.failed.push(row.fault);
        }
        report(&format!(
            "{:>2} | {:<60} | {RATE}/s, {:>5} events | lost 0, twice <= {}, silence <= {} s | lost {lost}, twice {twice}, \
             silence {:.1} s | {}",
            row.number,
            row.fault,
            load.acknowledged.len(),
            row.twice,
            row.silence.as_secs(),
            silence.as_secs_f64(),
            if passed { "pass" } else { "FAILED" }
        ));
    }

    fn end(self) {
        assert!(self.failed.is_empty(), "failed: {:?}", self.failed);
    }
}

async fn stream(shop: &Shop<'_>) -> Stream {
    let jetstream = shop.world.nats.jetstream(User::Operator).await.unwrap();
    jetstream.get_stream(format!("{}_orders", shop.namespace)).await.unwrap()
}

/// Waits until the shared consumer is as the operator wants it.
async fn right(shop: &Shop<'_>) {
    wait_for("the consumer to be right", SOON, async || {
        let consumer = shop.consumer().await?;
        let (pending, paused) = (consumer.config.max_ack_pending, consumer.paused);
        anyhow::ensure!(pending == 50_000 && !paused, "max_ack_pending {pending}, paused {paused}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn one_server() {
    let _machine = alone().await;
    let world = World::start(Options { servers: 1, ..Options::default() }).await.unwrap();
    let proxy = Proxy::start(world.nats.servers()[0].address()).await;
    let through = json!({ "nats": { "url": format!("nats://{}", proxy.address) } });
    let proxied = Dispatcher::spawn(world.folder(), "proxied", &world.nats, &world.sealing, &through).unwrap();
    proxied.wait_ready(SOON).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    let direct = &world.dispatchers[0];
    let mut table = Table { shop: &shop, failed: Vec::new() };

    let kills = by_length(2, 5);
    let killed = row(7, "a dispatcher is killed every few seconds", kills * IN_FLIGHT, 10);
    table
        .hold(killed, async {
            for _ in 0..kills {
                direct.kill9().unwrap();
                direct.restart().unwrap();
                direct.wait_ready(SOON).await.unwrap();
                sleep(Duration::from_secs(2)).await;
            }
        })
        .await;
    let cut = row(8, "a dispatcher is cut off from NATS, 2xx before the ack included", 2 * IN_FLIGHT, 10);
    table
        .hold(cut, async {
            for _ in 0..2 {
                proxy.set(Mode::Cut);
                sleep(Duration::from_secs(1)).await;
                proxy.set(Mode::Pass);
                proxied.wait_ready(SOON).await.unwrap();
            }
        })
        .await;
    let deleted = row(10, "the consumer is deleted", 2 * IN_FLIGHT, 30);
    table
        .hold(deleted, async {
            let consumer = shop.consumer().await.unwrap();
            stream(&shop).await.delete_consumer(&consumer.name).await.unwrap();
            right(&shop).await;
        })
        .await;
    let edited = row(10, "the consumer is edited and paused", 2 * IN_FLIGHT, 30);
    table
        .hold(edited, async {
            let (consumer, stream) = (shop.consumer().await.unwrap(), stream(&shop).await);
            let config = pull::Config::try_from_consumer_config(consumer.config.clone()).unwrap();
            let config = pull::Config { max_ack_pending: 1, ..config };
            stream.update_consumer(config).await.unwrap();
            let hour = async_nats::datetime::DateTime::now_utc() + Duration::from_secs(3600);
            stream.pause_consumer(&consumer.name, hour).await.unwrap();
            right(&shop).await;
        })
        .await;
    if is_long() {
        slower(&mut table, &proxy, &proxied).await;
    }
    table.end();
}

/// The faults that take longer.
async fn slower(table: &mut Table<'_>, proxy: &Proxy, proxied: &Dispatcher) {
    let (shop, world) = (table.shop, table.shop.world);
    let direct = &world.dispatchers[0];
    let late = row(8, "a dispatcher's packets to and from NATS are 300 ms late", IN_FLIGHT, 10);
    table
        .hold(late, async {
            proxy.set(Mode::Delay(Duration::from_millis(300)));
            sleep(Duration::from_secs(10)).await;
            proxy.set(Mode::Pass);
        })
        .await;
    let half_open = row(8, "a dispatcher's connections to NATS are half open", 2 * IN_FLIGHT, 20);
    table
        .hold(half_open, async {
            proxy.set(Mode::HalfOpen);
            sleep(Duration::from_secs(12)).await;
            proxy.set(Mode::Pass);
            proxied.wait_ready(SOON).await.unwrap();
        })
        .await;
    let frozen = row(7, "a dispatcher is stopped (SIGSTOP) past its lease", 2 * IN_FLIGHT, 15);
    table
        .hold(frozen, async {
            direct.freeze().unwrap();
            sleep(Duration::from_secs(10)).await;
            direct.thaw().unwrap();
            direct.wait_ready(SOON).await.unwrap();
        })
        .await;
    let restarted = row(9, "NATS is killed and starts again", 4 * IN_FLIGHT, 10);
    table
        .hold(restarted, async {
            world.nats.kill9().unwrap();
            world.nats.restart().await.unwrap();
        })
        .await;
    let away = row(11, "the operator is gone for a minute, a dispatcher restarts meanwhile", IN_FLIGHT, 10);
    table
        .hold(away, async {
            world.operator.kill9().unwrap();
            sleep(Duration::from_secs(30)).await;
            direct.restart().unwrap();
            direct.wait_ready(SOON).await.unwrap();
            sleep(Duration::from_secs(30)).await;
            world.operator.restart().unwrap();
            world.operator.wait_ready(SOON).await.unwrap();
        })
        .await;
    // What the stream had is delivered first: nobody can deliver what was deleted with it.
    shop.all_acked(SOON).await;
    let before = stream(shop).await.cached_info().created;
    let jetstream = world.nats.jetstream(User::Operator).await.unwrap();
    jetstream.delete_stream(format!("{}_orders", shop.namespace)).await.unwrap();
    wait_for("the stream to be there again", SOON, async || {
        let all: Vec<_> = jetstream.streams().try_collect().await?;
        let name = format!("{}_orders", shop.namespace);
        anyhow::ensure!(all.iter().any(|info| info.config.name == name && info.created != before));
        Ok(())
    })
    .await
    .unwrap();
    table.hold(row(10, "the stream was created again, with sequences from 1", IN_FLIGHT, 30), async {}).await;
}

/// The long form alone has three servers.
#[tokio::test]
async fn three_servers() {
    if !is_long() {
        return;
    }
    let _machine = alone().await;
    let world = World::start(Options { dispatchers: 2, servers: 3, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &[">"], json!({})).await;
    let name = format!("{}_orders", shop.namespace);
    let mut table = Table { shop: &shop, failed: Vec::new() };
    let leader = row(9, "the leader of the Producer's stream is killed, of three servers", 4 * IN_FLIGHT, 20);
    table
        .hold(leader, async {
            let leader = world.nats.leader(&name).await.unwrap();
            leader.kill9().unwrap();
            sleep(Duration::from_secs(10)).await;
            leader.restart().await.unwrap();
            world.nats.wait_current().await.unwrap();
        })
        .await;
    let follower = row(9, "a follower is cut off for 10 s (SIGSTOP), and comes back", 4 * IN_FLIGHT, 20);
    table
        .hold(follower, async {
            let follower = world.nats.follower(&name).await.unwrap();
            follower.freeze().unwrap();
            sleep(Duration::from_secs(10)).await;
            follower.thaw().unwrap();
            world.nats.wait_current().await.unwrap();
        })
        .await;
    table.end();
}
