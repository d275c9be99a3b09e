//! The disk of the NATS server is full.

use std::time::Duration;

use anyhow::ensure;
use hookwright_e2e::{Options, World, is_long};
use serde_json::json;
use tokio::time::sleep;

use super::table::{IN_FLIGHT, Table, row};
use crate::shop::{Shop, alone};

const DISK: u64 = 128 << 20;

/// The long form alone has a disk of its own, which takes the right to mount.
#[tokio::test]
async fn a_full_disk() {
    if !is_long() {
        return;
    }
    let _machine = alone().await;
    let world = World::start(Options { servers: 1, disk: Some(DISK), ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &["tick"], json!({})).await;
    let mut table = Table::new(&shop);
    let expected = "the publisher gets the error; all goes on once there is room and the server has started again";
    let full = row(16, "the disk of the NATS server is full for 20 s", expected, (4 * IN_FLIGHT, 45));
    table
        .hold(full, async {
            let disk = world.nats.disk()?;
            disk.fill()?;
            sleep(Duration::from_secs(20)).await;
            let refused = shop.publisher.publish(&shop.event("tick", "while it is full").message_id("full")).await;
            disk.clear()?;
            // A server that can't write turns its JetStream off until it starts again.
            world.nats.restart().await?;
            ensure!(refused.is_err(), "an event was stored on a full disk");
            Ok("the publisher got an error".to_owned())
        })
        .await;
    table.end();
}
