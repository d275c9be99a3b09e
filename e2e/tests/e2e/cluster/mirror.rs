//! A mirror of a bucket, beside a replica that was away while keys were written.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use async_nats::jetstream::kv;
use async_nats::jetstream::stream::StorageType;
use futures::future::{join_all, try_join_all};
use hookwright_core::nats::installation::Names;
use hookwright_core::nats::names::CONFIG_BUCKET;
use hookwright_e2e::{Nats, NatsOptions, NatsServer, Scratch, Tools, User, by_length, report};
use hookwright_runtime::mirror::{Change, Mirror};
use hookwright_runtime::nats as runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::SERVERS;
use crate::shop::{SOON, beside};

/// How many keys there are at first, and how many more are written while a server is away.
const KEYS: usize = 500;
const MORE: usize = 20;
/// How many mirrors start side by side.
const MIRRORS: usize = 4;

/// A server that comes back is behind for a moment. NATS may put the consumer of a mirror there; then what the consumer
/// has seems to be all, without the keys that were written meanwhile.
#[tokio::test]
async fn a_mirror_is_loaded_only_with_every_key_that_there_was() {
    let _machine = beside().await;
    let (tools, scratch) = (Tools::locate().await.unwrap(), Scratch::new().unwrap());
    let nats =
        Nats::start(&tools, scratch.path(), NatsOptions { servers: SERVERS, ..NatsOptions::default() }).await.unwrap();
    let bucket = create_bucket(&nats).await;
    put(&bucket, 0..KEYS).await;
    let connection = connect(&nats).await;
    let (mut snapshots, mut short) = (0, Vec::new());
    let mut keys = KEYS;
    for _ in 0..by_length(3, 10) {
        nats.wait_current().await.unwrap();
        let victim = nats.follower(&format!("KV_{CONFIG_BUCKET}")).await.unwrap();
        victim.terminate().await.unwrap();
        put(&bucket, keys..keys + MORE).await;
        keys += MORE;
        for (after, seen) in look_beside(victim, &connection).await {
            snapshots += 1;
            if seen != keys {
                short.push(format!("{seen} of {keys} after {after:?}"));
            }
        }
    }
    report(&format!("mirrors beside a replica that had been away: {snapshots} loaded, {} too early", short.len()));
    assert!(short.is_empty(), "{} of {snapshots}: {short:?}", short.len());
}

/// Starts the server, and mirrors beside it one after the other. Returns when each had loaded, and with how many keys.
async fn look_beside(victim: &NatsServer, connection: &runtime::Nats) -> Vec<(Duration, usize)> {
    let (start, looking) = (Instant::now(), by_length(Duration::from_secs(3), Duration::from_secs(15)));
    let look = async |_| {
        let mut looks = Vec::new();
        while start.elapsed() < looking {
            let keys = timeout(SOON, loaded(connection)).await.unwrap();
            looks.push((start.elapsed(), keys));
        }
        looks
    };
    let (started, looks) = tokio::join!(victim.restart(), join_all((0..MIRRORS).map(look)));
    started.unwrap();
    looks.into_iter().flatten().collect()
}

/// How many keys a new mirror has when it says that it has loaded.
async fn loaded(connection: &runtime::Nats) -> usize {
    let (report, mut changes) = mpsc::unbounded_channel();
    let mirror = Mirror::new(connection.clone(), CONFIG_BUCKET, ">");
    let mirror = mirror.run(move |change| report.send(change).unwrap());
    let count = async {
        let mut keys = HashSet::new();
        loop {
            match changes.recv().await.unwrap() {
                Change::Put { key, .. } => drop(keys.insert(key)),
                Change::Delete { key } | Change::Vanished { key } => drop(keys.remove(&key)),
                Change::Loaded(_) => return keys.len(),
                Change::Behind => {}
            }
        }
    };
    tokio::select! {
        never = mirror => match never {},
        keys = count => keys,
    }
}

async fn create_bucket(nats: &Nats) -> kv::Store {
    let config = kv::Config {
        bucket: CONFIG_BUCKET.to_owned(),
        history: 1,
        num_replicas: SERVERS,
        storage: StorageType::File,
        ..kv::Config::default()
    };
    nats.jetstream(User::Admin).await.unwrap().create_key_value(config).await.unwrap()
}

async fn put(bucket: &kv::Store, keys: Range<usize>) {
    try_join_all(keys.map(async |n| bucket.put(format!("subscription.p.s{n:06}"), "x".into()).await)).await.unwrap();
}

/// The connection that a dispatcher would have.
async fn connect(nats: &Nats) -> runtime::Nats {
    let user = User::Dispatcher;
    let settings = runtime::NatsSettings {
        url: nats.url(),
        user: Some(user.name().to_owned()),
        password_file: Some(nats.password_file(user)),
        credentials_file: None,
        nkey_file: None,
        client_certificate_file: None,
        client_key_file: None,
        ca_file: None,
        inbox_prefix: user.inbox_prefix().to_owned(),
        names: Names::default(),
    };
    runtime::connect(&settings, "mirror").await.unwrap()
}
