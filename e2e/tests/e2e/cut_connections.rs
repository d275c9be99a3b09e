//! Events with headers that no client can read end the connection that gets them. Whoever publishes them to one Producer
//! takes nothing from another.

use std::time::{Duration, Instant};

use hookwright_e2e::{Event, NatsServer, Options, User, World, by_length, is_long, report};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};

use crate::faults::{ARRIVAL, Load};
use crate::shop::{Shop, alone};

pub(crate) const UNREADABLE: &[u8] = b"NATS/1.0\r\nname: \xff\r\n\r\n";

fn good_rate() -> u64 {
    by_length(100, 500)
}

fn span() -> Duration {
    by_length(Duration::from_secs(15), Duration::from_secs(45))
}

#[tokio::test]
async fn unreadable_events_of_one_producer_take_nothing_from_another() {
    let _machine = alone().await;
    let world = World::start(Options { dispatchers: 2, ..Options::default() }).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    shop.produce("poisoned", "poisoned", json!({})).await;
    shop.subscribe("poisoned", &[">"], json!({ "producerRef": { "name": "poisoned" } })).await;
    shop.subscribe("good", &[">"], json!({})).await;
    for bad_rate in by_length(&[10][..], &[10, 40]) {
        let before = shop.receiver.count("/good");
        let subject = format!("{}.poisoned.x", shop.namespace);
        let mut raw = Raw::connect(&world).await;
        let mut arrived = 0;
        let start = Instant::now();
        // It goes on until many good ones have arrived beside it.
        let many = usize::try_from(good_rate() * span().as_secs() / 2).unwrap();
        let poison = async {
            let mut tick = interval(Duration::from_secs(1) / *bad_rate);
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while start.elapsed() < span() || arrived < many && start.elapsed() < ARRIVAL {
                tick.tick().await;
                raw.publish(&subject, UNREADABLE).await;
                arrived = shop.receiver.count("/good") - before;
            }
        };
        let load = Load::during(&shop, &shop.publisher, good_rate(), poison).await;
        let published = load.acknowledged.len();
        let requests = load.all_received(&shop, "good").await;
        let silence = load.longest_silence(&requests);
        report(&format!(
            "{bad_rate}/s unreadable beside {}/s good ones: {arrived} of {published} had arrived in time; longest \
             silence {silence:?}",
            good_rate()
        ));
        assert!(arrived >= many, "{arrived} of {published}");
        let lapsed = world.dispatchers.iter().filter(|d| d.logs().contains("the lease has lapsed")).count();
        // On a machine that stands still for a moment not all are in time, and a lease lapses.
        if is_long() {
            assert!(arrived * 10 >= published * 9, "{arrived} of {published}");
            assert_eq!(lapsed, 0, "a lease has lapsed");
        }
    }
    // The readable ones among the unreadable ones arrive, too.
    shop.publish(&Event::new(format!("{}.poisoned.x", shop.namespace), "readable")).await;
    shop.receiver.wait_count("/poisoned", 1, Duration::from_secs(300)).await.unwrap();
}

/// A publisher by the protocol itself, without acknowledgements: client libraries refuse to send such headers.
pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) async fn connect(world: &World) -> Self {
        let server: &NatsServer = &world.nats.servers()[0];
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let login = json!({ "user": "app", "pass": world.nats.password(User::App), "headers": true, "verbose": false });
        stream.write_all(format!("CONNECT {login}\r\nPING\r\n").as_bytes()).await.unwrap();
        Self(stream)
    }

    pub(crate) async fn publish(&mut self, subject: &str, headers: &[u8]) {
        let size = headers.len();
        let publish = format!("HPUB {subject} {size} {size}\r\n");
        self.0.write_all(&[publish.as_bytes(), headers, b"\r\nPING\r\n"].concat()).await.unwrap();
        let mut answer = [0; 4096];
        let n = self.0.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..n]);
        assert!(n > 0 && !answer.contains("-ERR"), "{answer}");
    }
}
