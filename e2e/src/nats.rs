//! NATS with JetStream: one server, or a cluster.

mod disk;
mod routes;
mod server;
mod user;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use async_nats::jetstream::stream::ClusterInfo;
use futures::TryStreamExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::nats::routes::Routes;
use crate::nats::server::{Launch, free_port};
use crate::nats::user::Passwords;
use crate::{Publisher, Tools, Use, chart, wait_for};

pub use disk::SmallDisk;
pub use server::NatsServer;
pub use user::User;

/// How long a cluster may take to elect leaders, and to catch up.
const CURRENT: Duration = Duration::from_secs(120);
const SYNC: &str = "sync_interval: always";
/// How long one look at the cluster may take.
const LOOK: Duration = Duration::from_secs(5);
/// How long it may take until there is a connection.
const CONNECTED: Duration = Duration::from_secs(60);
/// How long an answer may take of a server that stands alone, and of a cluster. A cluster may have lost a server, and the
/// question with it: then it is better to ask again.
const ANSWER: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// How to start NATS.
#[derive(Clone, Copy, Debug, Default)]
pub struct NatsOptions {
    /// The number of servers, which form a cluster if there are several.
    pub servers: usize,
    /// The bytes that the account may keep in files on each server, and as many in memory. A stream may then have at most
    /// [`CONSUMERS`], a consumer at most [`ACK_PENDING`] unacked messages, and a pull at most [`BATCH`].
    pub account_storage: Option<u64>,
    /// The bytes of a disk of its own for the data of the first server. It takes the right to mount.
    pub disk: Option<u64>,
    /// Whether servers can be cut off from each other ([`Nats::isolate`]).
    pub isolable: bool,
}

/// NATS with file storage, and the users of the chart's bundled NATS and [`User::Admin`]. Streams are on all servers.
pub struct Nats {
    servers: Vec<NatsServer>,
    passwords: Passwords,
    routes: Routes,
    disk: Option<SmallDisk>,
}

impl Nats {
    /// Starts the servers, whose data, passwords and logs are in `folder`, and waits until JetStream is there.
    pub async fn start(tools: &Tools, folder: &Path, options: NatsOptions) -> Result<Self> {
        let NatsOptions { servers, account_storage, disk, isolable } = options;
        std::fs::create_dir_all(folder)?;
        let (config, passwords) = (folder.join("nats.conf"), Passwords::generate(folder)?);
        std::fs::write(&config, configuration(tools.whom(), account_storage.map(|bytes| bytes * servers as u64))?)?;
        let ports: Vec<u16> = (0..servers).map(|_| free_port()).collect::<Result<_>>()?;
        let routes = if isolable { Routes::through_proxies(&ports).await? } else { Routes::direct(&ports) };
        let store = folder.join("nats-1").join("store");
        let disk = disk.map(|bytes| SmallDisk::mount(&store, bytes)).transpose()?;
        let spawn = |(n, port): (usize, &u16)| {
            let name = format!("nats-{}", n + 1);
            NatsServer::spawn(Launch {
                binary: tools.tool("nats-server")?,
                config: config.clone(),
                folder: folder.join(&name),
                name,
                passwords: passwords.clone(),
                port: free_port()?,
                cluster: (servers > 1).then(|| (*port, routes.of(n), isolable)),
            })
        };
        let servers = ports.iter().enumerate().map(spawn).collect::<Result<_>>()?;
        let nats = Self { servers, passwords, routes, disk };
        nats.wait_ready().await?;
        Ok(nats)
    }

    /// The servers.
    pub fn servers(&self) -> &[NatsServer] {
        &self.servers
    }

    /// On how many servers a stream should be: on all.
    pub fn replicas(&self) -> usize {
        self.servers.len()
    }

    /// The server that leads a stream.
    pub async fn leader(&self, stream: &str) -> Result<&NatsServer> {
        let jetstream = self.jetstream(User::Admin).await?;
        let name = wait_for(&format!("a leader of {stream}"), CURRENT, async || {
            let cluster = jetstream.get_stream(stream).await?.cached_info().cluster.clone();
            cluster.map_or(Ok(None), |cluster| cluster.leader.context("none").map(Some))
        })
        .await?;
        match name {
            Some(name) => self.servers.iter().find(|server| server.name() == name).context(name),
            None => Ok(&self.servers[0]),
        }
    }

    /// A server that has a stream and doesn't lead it.
    pub async fn follower(&self, stream: &str) -> Result<&NatsServer> {
        let leader = self.leader(stream).await?.name();
        self.servers.iter().find(|server| server.name() != leader).context("there is only one server")
    }

    /// Cuts a server off from the other servers, but not from its clients; or ends that. It takes
    /// [`NatsOptions::isolable`].
    pub fn isolate(&self, server: &NatsServer, isolated: bool) {
        if let Some(n) = self.servers.iter().position(|one| one.name() == server.name()) {
            self.routes.isolate(n, isolated);
        }
    }

    /// The disk of the first server, if it has one of its own.
    pub fn disk(&self) -> Result<&SmallDisk> {
        self.disk.as_ref().context("the first server has no disk of its own")
    }

    /// Waits until all servers are at work, and have all that there is of each stream.
    pub async fn wait_current(&self) -> Result<()> {
        let (jetstream, system) = (self.jetstream(User::Admin).await?, self.connect(User::Sys).await?);
        wait_for("all replicas to be current", CURRENT, async || {
            self.check_meta_group(&system).await?;
            let mut names = jetstream.stream_names();
            while let Some(name) = timeout(LOOK, names.try_next()).await?? {
                let stream = timeout(LOOK, jetstream.get_stream(&name)).await??;
                let cluster = stream.cached_info().cluster.as_ref();
                ensure!(cluster.is_none_or(is_current), "{name}: {cluster:?}");
            }
            Ok(())
        })
        .await
    }

    /// Whether the group that assigns streams to servers has a leader, and all servers follow it.
    async fn check_meta_group(&self, system: &async_nats::Client) -> Result<()> {
        if self.servers.len() == 1 {
            return Ok(());
        }
        let leader = system.request("$SYS.REQ.SERVER.PING.JSZ", r#"{"leader_only": true}"#.into());
        let answer: Value = serde_json::from_slice(&timeout(LOOK, leader).await??.payload)?;
        let meta = &answer["data"]["meta_cluster"];
        let replicas = meta["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
        let current = replicas.iter().filter(|replica| replica["current"] == true && replica["offline"] != true);
        ensure!(current.count() + 1 == self.servers.len(), "{meta}");
        Ok(())
    }

    /// Kills all servers (SIGKILL).
    pub fn kill9(&self) -> Result<()> {
        self.servers.iter().try_for_each(NatsServer::kill9)
    }

    /// Starts all servers again, on the same ports with the same data, and waits until JetStream is there. Servers that
    /// still run are killed first, all before the first starts.
    pub async fn restart(&self) -> Result<()> {
        self.kill9()?;
        self.servers.iter().try_for_each(NatsServer::spawn_again)?;
        self.wait_ready().await
    }

    async fn wait_ready(&self) -> Result<()> {
        for server in &self.servers {
            server.wait_ready().await?;
        }
        self.wait_current().await
    }

    /// `nats://127.0.0.1:PORT`, with commas between the servers.
    pub fn url(&self) -> String {
        self.urls("")
    }

    /// The address with a user's name and password in it, as the `nats` CLI takes it.
    pub fn url_of(&self, user: User) -> String {
        self.urls(&format!("{}:{}@", user.name(), self.password(user)))
    }

    fn urls(&self, login: &str) -> String {
        let url = |server: &NatsServer| format!("nats://{login}{}", server.address());
        self.servers.iter().map(url).collect::<Vec<_>>().join(",")
    }

    /// A user's password.
    pub fn password(&self, user: User) -> &str {
        self.passwords.of(user)
    }

    /// A file that holds a user's password.
    pub fn password_file(&self, user: User) -> PathBuf {
        self.passwords.file(user)
    }

    /// A connection as that user. It reconnects by itself.
    pub async fn connect(&self, user: User) -> Result<async_nats::Client> {
        self.connect_to(&self.servers.iter().collect::<Vec<_>>(), user).await
    }

    async fn connect_to(&self, servers: &[&NatsServer], user: User) -> Result<async_nats::Client> {
        let addresses: Vec<String> = servers.iter().map(|server| server.address()).collect();
        let (name, password) = (user.name(), self.password(user));
        wait_for(&format!("a connection to {addresses:?} as {name}"), CONNECTED, async || {
            let options = async_nats::ConnectOptions::with_user_and_password(name.to_owned(), password.to_owned());
            Ok(options.custom_inbox_prefix(user.inbox_prefix()).connect(&addresses).await?)
        })
        .await
    }

    /// JetStream as that user.
    pub async fn jetstream(&self, user: User) -> Result<jetstream::Context> {
        Ok(self.patient(self.connect(user).await?))
    }

    /// JetStream that waits for answers for as long as a busy machine may take.
    fn patient(&self, client: async_nats::Client) -> jetstream::Context {
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(if self.servers.len() == 1 { ANSWER.0 } else { ANSWER.1 });
        jetstream
    }

    /// JetStream as [`User::App`], with which applications publish.
    pub async fn publisher(&self) -> Result<Publisher> {
        let client = self.connect(User::App).await?;
        Ok(Publisher::new(self.patient(client.clone()), jetstream::new(client)))
    }

    /// The same, connected to this server.
    pub async fn publisher_at(&self, server: &NatsServer) -> Result<Publisher> {
        let client = self.connect_to(&[server], User::App).await?;
        Ok(Publisher::new(self.patient(client.clone()), jetstream::new(client)))
    }
}

fn is_current(cluster: &ClusterInfo) -> bool {
    cluster.leader.is_some() && cluster.replicas.iter().all(|replica| replica.current && !replica.offline)
}

/// A variable of the environment with which tests and the bench keep `sync_interval: always`.
const KEEP_SYNC: &str = "HOOKWRIGHT_TEST_SYNC";

/// How many unacked messages a consumer may have in an account with limits: fewer than Hookwright's would have.
const ACK_PENDING: u32 = 1_000;

/// How many messages a pull may ask for where there are limits: fewer than Hookwright's ask for.
const BATCH: u32 = 100;

/// How many consumers a stream may have in an account with limits: more than Hookwright has.
const CONSUMERS: u32 = 100;

/// The user with which tests look at everything and put it in disorder.
const ADMIN: &str = "      { user: admin, password: $ADMIN_PASSWORD }\n";

/// The beginning and the end of the users of Hookwright's account.
const USERS: (&str, &str) = ("    users: [\n", "\n    ]\n");

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(begin)?.1.split_once(end)?.0)
}

/// The configuration of the chart's bundled NATS with this limit. Tests do without the sync of each write: they kill processes, not
/// machines, and a disk of a test machine takes milliseconds for each.
fn configuration(whom: Use, account_storage: Option<u64>) -> Result<String> {
    let (mut config, second) = (chart::nats_configuration("default")?, chart::nats_configuration("prefixed")?);
    // The users of another installation in the same account, as the chart makes them.
    let users = between(&second, USERS.0, USERS.1).context("the users of an installation with a prefix")?;
    config = config.replacen(USERS.0, &format!("{}{ADMIN}{users}", USERS.0), 1);
    if whom == Use::Tests && std::env::var_os(KEEP_SYNC).is_none() {
        ensure!(config.contains(SYNC), "the chart's nats.conf has no `{SYNC}` to leave out");
        config = config.replace(SYNC, "");
    }
    // By default NATS has three quarters of the free disk, of which each stream reserves its `maxBytes`.
    const STORE: &str = "store_dir: $NATS_STORE";
    ensure!(config.contains(STORE), "the chart's nats.conf has no `{STORE}`");
    config = config.replace(STORE, &format!("{STORE}\n  max_file_store: 10TB\n  max_memory_store: 1TB"));
    let Some(bytes) = account_storage else { return Ok(config) };
    let config = config.replace(STORE, &format!("{STORE}\n  limits {{ max_request_batch: {BATCH} }}"));
    let limits = format!(
        "jetstream: {{ max_file: {bytes}, max_memory: {bytes}, max_ack_pending: {ACK_PENDING}, max_consumers: {CONSUMERS} }}"
    );
    let limited = config.replace("jetstream: enabled", &limits);
    ensure!(limited != config, "the chart's nats.conf has no `jetstream: enabled` to limit");
    Ok(limited)
}
