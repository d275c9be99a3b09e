//! What a tenant's schema costs is its own affair.

use serde_json::json;

use super::{declare, schema, validation};
use crate::shop::{Shop, once_in_three, shared};

/// Each takes tens of milliseconds to validate, and in a debug build a multiple of that: all of them take far longer than
/// one event of another Producer.
const HEAVY: usize = 20;

#[tokio::test]
async fn a_heavy_schema_of_one_producer_keeps_no_other_waiting() {
    let (greedy, _machine) = shared().await;
    let modest = Shop::open(greedy.world, json!({})).await;
    let heavy = json!({ "anyOf": [{ "pattern": "(a|b)*a(a|b){12}c" }, true] });
    declare(&greedy, &schema(&greedy, "heavy", "heavy", &[("1", heavy)], json!({}))).await;
    declare(&modest, &schema(&modest, "light", "light", &[("1", json!({ "type": "string" }))], json!({}))).await;
    for shop in [&greedy, &modest] {
        validation(shop, "Enforce").await;
        shop.subscribe("all", &[">"], json!({})).await;
    }
    // What no automaton remembers.
    let mut state = 1_u32;
    let noise: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { 'a' } else { 'b' }
    })
    .take(50_000)
    .collect();
    once_in_three("a turn before the others are done", async |n| {
        let before = greedy.receiver.count("/all");
        for _ in 0..HEAVY {
            greedy.publish(&greedy.event("heavy", json!(noise).to_string())).await;
        }
        // Large enough to need its turn, too.
        modest.publish(&modest.event("light", json!("x".repeat(100_000)).to_string())).await;
        let turn = modest.requests("all", n).await[n - 1].at;
        greedy.requests("all", before + HEAVY).await;
        let heavy = greedy.receiver.requests("/all");
        let done = heavy[before..].iter().filter(|request| request.at < turn).count();
        anyhow::ensure!(done < HEAVY, "all were done");
        Ok(())
    })
    .await;
}
