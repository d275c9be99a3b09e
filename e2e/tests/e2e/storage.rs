//! The account's file storage is full: nothing can be parked, buried or written. In the long form for two thousand
//! Subscriptions and a minute.

mod limits;

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Config;
use hookwright_core::nats::names::PARKED_STREAM;
use hookwright_e2e::{Answer, Event, Options, User, World, by_length, report, wait_for};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::shop::{SOON, Shop, alone, fixed};

const STORAGE: u64 = 64 << 20;
/// The stream of the subject `filler`.
pub(crate) const FILLER: &str = "FILLER";
const MINUTE: Duration = Duration::from_secs(60);

/// Keeps the storage full until `stop`: also what others free.
pub(crate) async fn fill(shop: &Shop<'_>, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        for size in [500_000, 20_000, 1_000, 1] {
            let filler = Event::new("filler", vec![b'x'; size]);
            while shop.publisher.publish(&filler).await.is_ok() {}
        }
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn wait_full(shop: &Shop<'_>) {
    wait_for("the storage to be full", SOON, async || {
        let refused = shop.publisher.publish(&Event::new("filler", "x")).await;
        anyhow::ensure!(refused.is_err(), "there is room");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_event_for_many_reaches_each_once_while_the_storage_is_full() {
    let (healthy_ones, full_for) = by_length((299, MINUTE / 4), (1_999, MINUTE));
    let _machine = alone().await;
    let dispatcher = json!({ "limits": { "inFlight": 512 } });
    let options = Options { dispatcher, account_storage: Some(STORAGE), ..Options::default() };
    let started = Instant::now();
    let world = World::start(options).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let key = shop.shared_key().await;
    let retried = |delay: &str| {
        let mut spec = fixed(delay);
        spec["signing"] = key["signing"].clone();
        spec
    };
    let healthy = |n: usize| shop.subscription(&format!("s-{n}"), &["all"], key.clone());
    let mut objects: Vec<Value> = (0..healthy_ones).map(healthy).collect();
    objects.push(shop.subscription("dead", &["all"], retried("2s")));
    objects.push(shop.subscription("early", &["early"], retried("15s")));
    shop.subscribe_all(objects).await;
    for path in ["/dead", "/early"] {
        shop.receiver.answer(path, Answer::status(503));
    }
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    let filler = Config { name: FILLER.into(), subjects: vec!["filler".into()], ..Config::default() };
    jetstream.create_stream(filler).await.unwrap();

    limits::have_a_reason(&shop).await;

    // One is parked while there is room, and due when there is none.
    shop.publish(&shop.event("early", "{}")).await;
    shop.status("early", "parked", |status| status["delivery"]["retrying"] == 1).await;
    // The other is published while there is room, and fanned out when there is none.
    world.dispatchers[0].freeze().unwrap();
    shop.publish(&shop.event("all", "{}")).await;
    let stop = CancellationToken::new();
    let full = async {
        wait_full(&shop).await;
        world.dispatchers[0].thaw().unwrap();
        let start = Instant::now();
        let requests = || (0..healthy_ones).map(|n| shop.receiver.count(&format!("/s-{n}")));
        wait_for("all deliveries", SOON, async || {
            let arrived = requests().filter(|n| *n > 0).count();
            anyhow::ensure!(arrived == healthy_ones, "{arrived}");
            Ok(())
        })
        .await
        .unwrap();
        report(&format!("{healthy_ones} deliveries in {:?} while nothing could be stored", start.elapsed()));
        while start.elapsed() < full_for {
            assert!(requests().all(|n| n == 1), "none comes twice");
            assert_eq!(shop.receiver.count("/dead"), 1, "the attempt is not repeated, its store is");
            sleep(Duration::from_millis(500)).await;
        }
        stop.cancel();
    };
    tokio::join!(fill(&shop, &stop), full);
    let lines = |log: String| log.lines().count() as u64;
    let lines = lines(world.dispatchers[0].logs()) + lines(world.operator.logs());
    // Each complaint is repeated every 10 s at most.
    let most = 100 + 5 * started.elapsed().as_secs();
    assert!(lines < most, "{lines} lines of log, at most {most}");

    for path in ["/dead", "/early"] {
        shop.receiver.answer(path, Answer::status(200));
    }
    assert!(jetstream.delete_stream(FILLER).await.unwrap().success);
    let start = Instant::now();
    for path in ["/dead", "/early"] {
        let succeeded = || shop.receiver.requests(path).iter().filter(|request| request.succeeded()).count();
        wait_for(&format!("{path} to get it"), 2 * SOON, async || {
            anyhow::ensure!(succeeded() > 0, "{} attempts", shop.receiver.count(path));
            Ok(())
        })
        .await
        .unwrap();
        report(&format!("{path} got it {:?} after there was room again", start.elapsed()));
    }
    wait_for("nothing to be parked", SOON, async || {
        let waiting = jetstream.get_stream(PARKED_STREAM).await?.cached_info().state.messages;
        anyhow::ensure!(waiting == 0, "{waiting} are");
        Ok(())
    })
    .await
    .unwrap();
    for path in ["/dead", "/early"] {
        let succeeded = shop.receiver.requests(path).iter().filter(|request| request.succeeded()).count();
        assert_eq!(succeeded, 1, "{path}");
    }
    let twice = (0..healthy_ones).filter(|n| shop.receiver.count(&format!("/s-{n}")) != 1).count();
    assert_eq!(twice, 0);
}
