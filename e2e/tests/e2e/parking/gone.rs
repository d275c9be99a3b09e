//! The quota, once very many dispatchers have counted for a Subscription and gone: their keys leave marks for a while.

use futures::{StreamExt, TryStreamExt, stream};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{HEALTH_BUCKET, health_key};
use hookwright_e2e::{Options, User, World, wait_for};
use serde_json::json;

use super::{QUOTA, UNSEEN, picky, publish_poison, settled, total};
use crate::shop::{SOON, Shop, beside, fixed};

/// More than NATS answers together.
const GONE: u64 = 1_100;

#[tokio::test]
async fn the_quota_counts_what_others_parked_after_very_many_have_gone() {
    let _machine = beside().await;
    let quota = json!({ "parking": { "quota": { "deliveries": QUOTA, "bytes": 100_000 } } });
    let world = World::start(Options { dispatcher: quota, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    picky(&shop, "/down");
    let uid = SubscriptionUid::parse(&shop.subscribe("down", &["small"], fixed("1h")).await).unwrap();
    let bucket = world.nats.jetstream(User::Admin).await.unwrap().get_key_value(HEALTH_BUCKET).await.unwrap();
    let removed = |n: u64| bucket.purge(health_key(&uid, &format!("{n:016x}")));
    stream::iter(0..GONE).map(removed).buffer_unordered(100).try_for_each(async |()| Ok(())).await.unwrap();
    publish_poison(&shop, "small", "{}", 100).await;
    assert_eq!(settled(&shop, "down", 100).await, (QUOTA, 80));

    // A dispatcher that has parked nothing yet.
    assert!(world.dispatchers[0].terminate().await.unwrap().success());
    world.dispatchers[0].restart().unwrap();
    world.dispatchers[0].wait_ready(SOON).await.unwrap();
    // Not all at once: some come after a look.
    for n in 1..=6 {
        publish_poison(&shop, "small", "{}", 10).await;
        wait_for(&format!("{n}0 to be parked or given up"), SOON, async || {
            let (parked, given_up) = (total(&world, "parked_total").await, total(&world, "dead_letters_total").await);
            anyhow::ensure!(parked + given_up >= 10 * n, "{parked} and {given_up}");
            Ok(())
        })
        .await
        .unwrap();
    }
    let (parked, _) = settled(&shop, "down", 160).await;
    assert!((QUOTA..=QUOTA + UNSEEN).contains(&parked), "{parked} wait");
}
