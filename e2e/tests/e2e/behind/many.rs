//! Many Subscriptions of one stream that are behind at once.

use std::time::Duration;

use hookwright_e2e::{Answer, Options, World};
use serde_json::json;

use super::{at_most, delivered, go_behind, publish, reason, wait_live};
use crate::shop::{SOON, Shop, beside, metric};

#[tokio::test]
async fn many_share_what_is_read_and_take_turns() {
    const EVENTS: usize = 2_500;
    const MANY: usize = 8;
    let _machine = beside().await;
    let dispatcher = json!({ "limits": { "catchingUp": 2 } });
    let world = World::start(Options { dispatchers: 1, dispatcher, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    publish(&shop, 0..EVENTS).await;
    shop.all_acked(SOON).await;
    let subscribe = async |name: &str| shop.subscribe(name, &["order.*"], json!({})).await;
    let mut quick = Vec::new();
    for n in 0..MANY {
        quick.push((format!("/quick-{n}"), subscribe(&format!("quick-{n}")).await));
    }
    let mut slow = Vec::new();
    for n in 0..3 {
        slow.push((format!("/slow-{n}"), subscribe(&format!("slow-{n}")).await));
    }
    for (_, uid) in &quick {
        go_behind(&shop, uid, 1).await;
    }
    for (path, uid) in &quick {
        delivered(&shop, path, EVENTS).await;
        wait_live(&shop, uid).await;
        // On a busy machine the lease of a slot may lapse: what was under way then comes again.
        at_most(&shop, path, 0..EVENTS, 2);
    }
    // A block has at most 1,000 events. Each on its own would need three.
    let reads = async |from| {
        let metrics = world.dispatchers[0].metrics().await.unwrap();
        metric(&metrics, &format!("behind_reads_total{{from=\"{from}\"}}"))
    };
    let (stream, memory) = (reads("Stream").await, reads("Memory").await);
    println!("{stream} reads of the stream, {memory} of what others had read");
    assert!(stream < 2 * MANY as u64 && memory > stream, "{stream} reads, {memory} shared");

    for (path, uid) in &slow {
        shop.receiver.answer(path, Answer::status(200).after(Duration::from_secs(2)));
        go_behind(&shop, uid, 1).await;
    }
    // Two have their turn, and the others wait. Sooner or later that is each of them.
    let queued = |status: &serde_json::Value| reason(status) == "True CatchUpQueued";
    shop.status("slow-2", "waiting for its turn", queued).await;
    let advances = |status: &serde_json::Value| {
        let behind = &status["delivery"]["behind"];
        behind["passed"].as_u64() > Some(0) && behind["perSecond"].as_u64() > Some(0)
    };
    shop.status("slow-0", "how far it has come, and how fast", advances).await;
    for (path, _) in &slow {
        shop.receiver.answer(path, Answer::status(200));
    }
    for (n, (path, uid)) in slow.iter().enumerate() {
        delivered(&shop, path, EVENTS).await;
        wait_live(&shop, uid).await;
        at_most(&shop, path, 0..EVENTS, 2);
        shop.status(&format!("slow-{n}"), "live", |status| reason(status) == "True Live").await;
    }
}
