//! What is killed while a Subscription is behind, or catches up.

use std::time::Duration;

use hookwright_core::nats::names::POSITIONS_BUCKET;
use hookwright_e2e::{Answer, Options, User, World, wait_for};
use serde_json::json;

use super::{delivered, position, publish, suspend, suspended_with, wait_live};
use crate::shop::{SOON, Shop, beside};

#[tokio::test]
async fn dispatchers_and_nats_that_are_killed_meanwhile_lose_nothing() {
    const EVENTS: usize = 3_000;
    let _machine = beside().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.receiver.answer("/killed", Answer::status(200).after(Duration::from_millis(20)));
    let uid = suspended_with(&shop, "killed", EVENTS).await;
    // The bucket of positions goes as a whole: what the dispatchers know is written again. Its revisions are counted anew.
    let jetstream = world.nats.jetstream(User::Admin).await.unwrap();
    jetstream.delete_stream(format!("KV_{POSITIONS_BUCKET}")).await.unwrap();
    wait_for("the position to be there again", SOON, async || {
        let entry = jetstream.get_key_value(POSITIONS_BUCKET).await?.get(&uid).await?;
        anyhow::ensure!(entry.is_some(), "it is not");
        Ok(())
    })
    .await
    .unwrap();
    // All with SIGKILL: NATS while it is behind, then the dispatchers and NATS while it catches up.
    world.nats.restart().await.unwrap();
    suspend(&shop, "killed", false).await;
    for (dispatcher, after) in [(Some(0), 200), (Some(1), 800), (None, 1_400), (Some(0), 2_000)] {
        delivered(&shop, "/killed", after).await;
        match dispatcher {
            Some(n) => {
                world.dispatchers[n].restart().unwrap();
                world.dispatchers[n].wait_ready(SOON).await.unwrap();
            }
            None => world.nats.restart().await.unwrap(),
        }
    }
    delivered(&shop, "/killed", EVENTS).await;
    wait_live(&shop, &uid).await;
    let (requests, seen) = (shop.receiver.count("/killed"), shop.deliveries("/killed").len());
    println!("{EVENTS} events, {} came twice after five kills", requests - seen);
    assert_eq!(seen, EVENTS);

    // All of it works without an operator and an API server: the breaker opens, the endpoint comes back, and the
    // Subscription is live.
    world.operator.kill9().unwrap();
    world.control_plane.freeze().unwrap();
    shop.receiver.answer("/killed", Answer::status(503));
    publish(&shop, EVENTS..EVENTS + 100).await;
    wait_for("the breaker to open", SOON, async || {
        let position = position(&shop, &uid).await;
        anyhow::ensure!(position.as_ref().is_some_and(|p| p.is_broken() && p.is_behind()), "{position:?}");
        Ok(())
    })
    .await
    .unwrap();
    shop.receiver.answer("/killed", Answer::status(200));
    delivered(&shop, "/killed", EVENTS + 100).await;
    wait_live(&shop, &uid).await;
    world.control_plane.thaw().unwrap();
}
