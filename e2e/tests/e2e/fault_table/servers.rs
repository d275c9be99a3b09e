//! Three NATS servers: one is killed, one stands still, one is cut off from the others and not from its clients.

use std::time::Duration;

use hookwright_e2e::{NatsServer, Options, World, by_length, is_long};
use serde_json::json;
use tokio::time::sleep;

use super::table::{IN_FLIGHT, Table, row};
use crate::shop::{Shop, alone};

/// The long form alone has three servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers() {
    if !is_long() {
        return;
    }
    let _machine = alone().await;
    let world =
        World::start(Options { dispatchers: 2, servers: 3, isolable: true, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &["tick"], json!({})).await;
    let (nats, name) = (&world.nats, format!("{}_orders", shop.namespace));
    let mut table = Table::new(&shop);
    let leader = row(9, "the leader of the Producer's stream is killed, of three servers", "", (4 * IN_FLIGHT, 20));
    table.hold(leader, async { down(&world, nats.leader(&name).await?).await }).await;
    let follower = row(9, "a follower stands still for 10 s (SIGSTOP), and comes back", "", (4 * IN_FLIGHT, 20));
    table
        .hold(follower, async {
            let follower = nats.follower(&name).await?;
            follower.freeze()?;
            sleep(Duration::from_secs(10)).await;
            follower.thaw()?;
            nats.wait_current().await?;
            Ok(String::new())
        })
        .await;
    let stopped = row(9, "a follower is killed and starts again", "", (4 * IN_FLIGHT, 20));
    table.hold(stopped, async { down(&world, nats.follower(&name).await?).await }).await;
    // One after the other, so that it is each client's server once.
    for server in nats.servers() {
        let parted = "a server is cut off from the others, and not from its clients";
        table
            .hold(
                row(9, parted, "clients of that server go over to another", (4 * IN_FLIGHT, 45)),
                part(&world, server),
            )
            .await;
    }
    table.end();
}

/// Kills a server, which starts again after a while.
async fn down(world: &World, server: &NatsServer) -> anyhow::Result<String> {
    server.kill9()?;
    sleep(Duration::from_secs(10)).await;
    server.restart().await?;
    world.nats.wait_current().await?;
    Ok(String::new())
}

async fn part(world: &World, server: &NatsServer) -> anyhow::Result<String> {
    world.nats.isolate(server, true);
    let cut = by_length(Duration::from_secs(10), Duration::from_secs(40));
    sleep(cut).await;
    world.nats.isolate(server, false);
    world.nats.wait_current().await?;
    Ok(format!("{} for {} s", server.name(), cut.as_secs()))
}
