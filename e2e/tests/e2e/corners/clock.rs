//! A dispatcher whose clock is off.

use std::time::{Duration, UNIX_EPOCH};

use hookwright_core::delivery::health::DeliveryCounts;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{HEALTH_BUCKET, health_key};
use hookwright_core::record::decode;
use hookwright_e2e::{Answer, Dispatcher, Options, User, World, wait_for};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::shop::{SOON, Shop, beside, once_in_three, schedule};

/// A delivery that waits is told of until it is due, by the right time.
async fn follow_what_waits(shop: &Shop<'_>, name: &str) -> anyhow::Result<()> {
    const WAIT: SignedDuration = SignedDuration::from_secs(25);
    let uid = shop.subscribe(name, &[name], schedule(&["25s"])).await;
    let path = format!("/{name}");
    shop.receiver.fail_first(&path, 1, Answer::status(500));
    let published = Timestamp::now();
    shop.publish(&shop.event(name, "{}")).await;
    let stored = Timestamp::now();
    let waits = |status: &Value| status["delivery"]["nextAttemptTime"].is_string();
    let status = shop.status(name, "waiting", waits).await;
    let seen = Timestamp::now();
    anyhow::ensure!(shop.receiver.count(&path) == 1, "its status came when it was due");
    let time = |field: &str| status["delivery"][field].as_str().unwrap().parse::<Timestamp>().unwrap();
    let (due, since) = (time("nextAttemptTime"), time("oldestPendingTime"));
    let spare = SignedDuration::from_secs(2);
    let failed = Timestamp::try_from(shop.receiver.requests(&path)[0].time)? - spare..seen + spare;
    assert!(failed.contains(&(due - WAIT)), "due {due}, not {WAIT} after {failed:?}");
    assert!((published - spare..stored + spare).contains(&since), "since {since}, not {published} to {stored}");
    let off = |time: Timestamp, wanted: Timestamp| time.duration_since(wanted).abs();
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let counts = jetstream.get_stream(format!("KV_{HEALTH_BUCKET}")).await.unwrap();
    let key = format!("$KV.{HEALTH_BUCKET}.{}", health_key(&SubscriptionUid::parse(&uid).unwrap(), "*"));
    let mut looks = 0;
    loop {
        let counts = counts.get_last_raw_message_by_subject(&key).await.unwrap().payload;
        if Timestamp::now() >= due - SignedDuration::from_millis(1500) {
            break;
        }
        let counts: DeliveryCounts = decode(&counts).unwrap();
        assert_eq!(counts.next_attempt.map(|at| off(at, due).as_secs()), Some(0), "{counts:?}");
        assert!(counts.oldest_pending.is_some());
        looks += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    anyhow::ensure!(looks > 0, "its status came when it was due");
    shop.requests(name, 2).await;
    Ok(())
}

fn clock_shift(shift: &str) -> Value {
    json!({ "environment": { "HOOKWRIGHT_TEST_CLOCK_SHIFT": shift } })
}

#[tokio::test]
async fn a_clock_that_is_off_is_corrected_or_keeps_its_dispatcher_out() {
    let _machine = beside().await;
    let options = Options { dispatcher: clock_shift("6s"), ..Options::default() };
    let world = World::start(options).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.receiver.fail_first("/all", 1, Answer::status(500));
    shop.subscribe("all", &["a"], schedule(&["2s"])).await;

    let patch = clock_shift("90s");
    let hopeless = Dispatcher::spawn(world.folder(), "hopeless", &world.nats, &world.sealing, &patch).unwrap();
    wait_for("it to say why it is not ready", SOON, async || {
        let (status, body) = hopeless.get("/readyz").await?;
        anyhow::ensure!(status == 503 && body.contains("clock"), "{status} {body}");
        Ok(())
    })
    .await
    .unwrap();

    for n in 0..20 {
        shop.publish(&shop.event("a", n.to_string())).await;
    }
    once_in_three("told of", async |n| follow_what_waits(&shop, &format!("waits-{n}")).await).await;
    // The first attempt fails, and is repeated when its time has come by the server's clock.
    for request in shop.requests("all", 21).await {
        let sent: u64 = request.header("webhook-timestamp").parse().unwrap();
        let received = request.time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        // By its own clock it would be sent 6 s after it is received. It may be received late.
        let most = received - SOON.as_secs()..=received + 3;
        assert!(most.contains(&sent), "sent {sent}, received {received}");
    }
    let metrics = hopeless.metrics().await.unwrap();
    assert!(metrics.contains("hookwright_dispatcher_events_total 0"), "{metrics}");
}
