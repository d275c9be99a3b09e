//! What users do with objects, an API server that is away, and events that nobody can read.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::FutureExt;
use hookwright_core::nats::names::dead_event;
use hookwright_e2e::{Answer, World, by_length, is_long, wait_for};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::table::{Fault, IN_FLIGHT, QUIET, Row, Table, dead_letters, row};
use crate::sharing::{edit_producer, foreign, let_in, shut_out};
use crate::shop::{SOON, Shop, TIMEOUT, all_loaded, began_after};

/// Returns the faults that are no matter of the load.
pub(super) fn quiet<'a>(shop: &'a Shop<'a>) -> Vec<(Row, Fault<'a>)> {
    let expected = "nothing without a grant, nothing 30 s after its end";
    let granted = row(6, "a Subscription of another namespace; the grant ends", expected, QUIET);
    let expected = "one dead letter for each; the publisher gets the error of a full stream";
    let poisoned = row(16, "poison, and a stream that is full", expected, QUIET);
    vec![(granted, grant(shop).boxed_local()), (poisoned, poison(shop).boxed_local())]
}

pub(super) async fn faults(table: &mut Table<'_>) {
    let shop = table.shop;
    let expected = "status current within 60 s of their return";
    let away = row(11, "operator and API server are gone, a dispatcher starts meanwhile", expected, (IN_FLIGHT, 10));
    table.hold(away, gone(shop)).await;
    let expected = "no attempt 5 s after it is known; the object gone within 60 s of NATS's return";
    let nats = by_length(QUIET, (4 * IN_FLIGHT, 20));
    table.hold(row(15, "a Subscription with a backlog is deleted", expected, nats), deletion(shop)).await;
}

async fn grant(shop: &Shop<'_>) -> anyhow::Result<String> {
    let other = shop.world.namespace("other").await?;
    let path = format!("/{other}");
    let mut object = foreign(shop, &other);
    object["spec"]["eventTypes"] = json!([{ "type": "tick" }]);
    shop.world.control_plane.apply_json(&object).await?;
    shut_out(shop, &other).await;
    ensure!(shop.receiver.count(&path) == 0, "requests without a grant");
    edit_producer(shop, json!({ "allowedNamespaces": { "from": "All" } })).await;
    let_in(shop, &other).await;
    shop.receiver.wait_count(&path, 100, SOON).await?;
    let start = Instant::now();
    edit_producer(shop, json!({ "allowedNamespaces": null })).await;
    shut_out(shop, &other).await;
    let known = all_loaded(shop.world).await;
    let told = start.elapsed();
    // What began before may still be under way.
    let seen = shop.receiver.count("/all");
    shop.receiver.wait_count("/all", seen + 400, SOON).await?;
    let late = began_after(&shop.receiver.requests(&path), known + Duration::from_secs(1));
    let delete = ["delete", "subscriptions.hookwright.dev/foreign", "-n", &other, TIMEOUT];
    shop.world.control_plane.kubectl(&delete).await?;
    ensure!(late == 0 && (!is_long() || told < Duration::from_secs(30)), "{late} attempts after {told:?}");
    Ok(format!("stopped after {:.1} s", told.as_secs_f64()))
}

/// A dispatcher starts again half-way.
async fn without_operator(world: &World) -> anyhow::Result<()> {
    let half = by_length(Duration::from_secs(2), Duration::from_secs(60));
    world.operator.kill9()?;
    sleep(half).await;
    world.dispatchers[0].restart()?;
    world.dispatchers[0].wait_ready(SOON).await?;
    sleep(half).await;
    Ok(())
}

async fn gone(shop: &Shop<'_>) -> anyhow::Result<String> {
    let world = shop.world;
    let start = Instant::now();
    world.control_plane.freeze()?;
    let meanwhile = without_operator(world).await;
    world.control_plane.thaw()?;
    meanwhile?;
    let away = start.elapsed();
    world.operator.restart()?;
    let back = Instant::now();
    world.operator.wait_ready(SOON).await?;
    let count = shop.receiver.count("/all") as u64;
    let current = |status: &Value| status["delivery"]["delivered"].as_u64().is_some_and(|n| n >= count);
    world.wait_status(&shop.namespace, "all", "current", SOON, current).await?;
    let took = back.elapsed();
    ensure!(!is_long() || took < Duration::from_secs(60), "current after {took:?}");
    Ok(format!("away for {:.0} s, current {:.1} s later", away.as_secs_f64(), took.as_secs_f64()))
}

async fn deletion(shop: &Shop<'_>) -> anyhow::Result<String> {
    shop.receiver.answer("/doomed", Answer::status(200).after(Duration::from_secs(1)));
    let backoff = json!({ "type": "Fixed", "delay": "1s" });
    shop.subscribe("doomed", &["tick"], json!({ "delivery": { "retry": { "backoff": backoff } } })).await;
    shop.receiver.wait_count("/doomed", 100, SOON).await?;
    let nats_is_away = is_long();
    if nats_is_away {
        shop.world.nats.kill9()?;
    }
    let delete = ["delete", "subscriptions.hookwright.dev/doomed", "-n", &shop.namespace, "--wait=false"];
    shop.world.control_plane.kubectl(&delete).await?;
    if nats_is_away {
        sleep(Duration::from_secs(10)).await;
        shop.world.nats.restart().await?;
    }
    let start = Instant::now();
    wait_for("the object to be gone", SOON, async || {
        let found = shop.world.control_plane.get(&shop.namespace, "subscriptions", "doomed").await;
        ensure!(found.is_err());
        Ok(())
    })
    .await?;
    let took = start.elapsed();
    let known = all_loaded(shop.world).await;
    sleep(Duration::from_secs(7)).await;
    let late = began_after(&shop.receiver.requests("/doomed"), known + Duration::from_secs(5));
    ensure!(late == 0 && (!is_long() || took < Duration::from_secs(60)), "{late} attempts; gone after {took:?}");
    Ok(format!("gone after {:.1} s, 0 of {} attempts late", took.as_secs_f64(), shop.receiver.count("/doomed")))
}

async fn poison(shop: &Shop<'_>) -> anyhow::Result<String> {
    let letters = dead_event(&shop.producer().await);
    let before = dead_letters(shop, &letters).await?;
    let poisons = ["{\"specversion\":".to_owned(), "[".repeat(10_000), "\u{0}".to_owned()];
    for poison in poisons.clone() {
        let event = shop.event("tick", poison).header("content-type", "application/cloudevents+json");
        shop.publish(&event).await;
    }
    wait_for("the dead letters of the events", SOON, async || {
        let dead = dead_letters(shop, &letters).await? - before;
        ensure!(dead == poisons.len(), "{dead}");
        Ok(())
    })
    .await?;
    let spec = json!({ "stream": { "maxBytes": "1Mi", "discard": "New" } });
    shop.produce("full", "full", spec).await;
    let event = hookwright_e2e::Event::new(format!("{}.full.a", shop.namespace), vec![b'x'; 100_000]);
    let (mut stored, mut refused) = (0, None);
    for _ in 0..20 {
        match shop.publisher.publish(&event).await {
            Ok(_) => stored += 1,
            Err(error) => refused = Some(format!("{error:#}")),
        }
    }
    let refused = refused.unwrap_or_default();
    let delete = ["delete", "producers.hookwright.dev/full", "-n", &shop.namespace, TIMEOUT];
    shop.world.control_plane.kubectl(&delete).await?;
    ensure!(stored < 20 && refused.contains("maximum bytes"), "{stored} of 20 stored, then {refused:?}");
    Ok(format!(
        "{} poisoned, {stored} of 20 stored: {}",
        poisons.len(),
        refused.rsplit(": ").next().unwrap_or_default()
    ))
}
