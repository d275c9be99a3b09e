//! A dispatcher stops as it should.

use hookwright_e2e::{Answer, Gate, Options, World, wait_for};
use serde_json::json;
use std::collections::HashSet;

use crate::shop::{SOON, Shop, beside};

#[tokio::test]
async fn a_dispatcher_that_stops_finishes_or_parks_what_it_holds() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let gate = Gate::closed();
    shop.receiver.answer("/slow", Answer::status(200).once_open(&gate));
    shop.subscribe("slow", &[">"], json!({ "delivery": { "timeout": "30s" } })).await;
    // Eight are under way (a 64th of 512), the others wait.
    for n in 0..40 {
        shop.publish(&shop.event("order.created", format!("{n}"))).await;
    }
    shop.requests("slow", 8).await;
    // Attempts that are under way end once it stops.
    let stopping = async {
        wait_for("it to be stopping", SOON, async || {
            let logs = world.dispatchers[0].logs();
            anyhow::ensure!(logs.contains("stopping"), "{logs}");
            Ok(())
        })
        .await
        .unwrap();
        gate.open();
    };
    let (status, ()) = tokio::join!(world.dispatchers[0].terminate(), stopping);
    let status = status.unwrap();
    assert!(status.success(), "{status}");
    let before = shop.receiver.count("/slow");
    assert!(before < 40, "it did not start what waited: {before}");

    world.dispatchers[0].restart().unwrap();
    let got = shop.requests("slow", 40).await;
    let bodies: HashSet<_> = got.iter().map(|request| request.body.clone()).collect();
    shop.status("slow", "all delivered", |status| status["delivery"]["delivered"] == 40).await;
    assert_eq!((bodies.len(), shop.receiver.count("/slow")), (40, 40), "each once");
}
