//! Faults one after the other, on real processes, each under 200 events/s: what each costs. `make faults` runs the long
//! form and prints the table. The short form has each fault for a few seconds, but for those that need three NATS servers
//! or a disk of their own.

mod endpoints;
mod names;
mod nats;
mod objects;
mod servers;
mod storage;
mod table;
pub(crate) mod tls;
mod wires;

use hookwright_e2e::{Dispatcher, Options, Proxy, Receiver, Scratch, World};
use serde_json::json;
use tokio::net::TcpListener;

use crate::shop::{SOON, Shop, alone, merge};
use names::NameServer;
use table::Table;
use tls::Authority;

#[tokio::test]
async fn one_server() {
    let _machine = alone().await;
    let (scratch, names) = (Scratch::new().unwrap(), NameServer::start().await);
    let authority = Authority::create(scratch.path()).unwrap();
    // One address of loopback is allowed, so that the others stand for what is forbidden.
    let egress = json!({ "allowedCIDRs": ["127.0.0.1/32"] });
    let dispatcher = json!({
        "dns": { "nameservers": [names.address] },
        "environment": { "SSL_CERT_FILE": authority.certificate },
    });
    let options = Options { servers: 1, egress, dispatcher: dispatcher.clone(), ..Options::default() };
    let world = World::start(options).await.unwrap();
    let proxy = Proxy::start(world.nats.servers()[0].address()).await.unwrap();
    let mut through = json!({ "nats": { "url": format!("nats://{}", proxy.address) } });
    merge(&mut through, dispatcher);
    let proxied = Dispatcher::spawn(world.folder(), "proxied", &world.nats, &world.sealing, &through).unwrap();
    proxied.wait_ready(SOON).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.subscribe("all", &["tick"], json!({})).await;
    let mut table = Table::new(&shop);
    let processes: [&Dispatcher; 2] = [&world.dispatchers[0], &proxied];
    let mut quiet = endpoints::quiet(&shop, &processes);
    quiet.push(tls::fault(&shop, &authority, scratch.path()));
    table.hold_all(quiet).await;
    let mut quiet = objects::quiet(&shop);
    quiet.push(endpoints::rotated(&shop));
    table.hold_all(quiet).await;
    endpoints::hanging(&mut table).await;
    objects::faults(&mut table).await;
    nats::faults(&mut table, &proxy, &proxied).await;
    table.end();
}

/// A receiver on 127.0.0.1, and a listener with its port on an address that is forbidden.
async fn beside_a_forbidden_one() -> (Receiver, TcpListener) {
    loop {
        let receiver = Receiver::start().await.unwrap();
        let port = receiver.address().port();
        if let Ok(listener) = TcpListener::bind(("127.0.0.2", port)).await {
            return (receiver, listener);
        }
    }
}
