//! Starts everything together.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::settings::{change_egress, merge, write_egress};
use crate::{Dispatcher, LentPlane, Nats, NatsOptions, Operator, Scratch, SealingKey, Tools, Use, servers};

const READY: Duration = Duration::from_secs(120);

/// How to start a [`World`].
#[derive(Clone)]
pub struct Options {
    /// The number of dispatchers. Default: 1.
    pub dispatchers: usize,
    /// A JSON merge patch on the operator's settings.
    pub operator: Value,
    /// A JSON merge patch on each dispatcher's settings.
    pub dispatcher: Value,
    /// A JSON merge patch on the egress file, which lets dispatchers send to loopback over plain HTTP.
    pub egress: Value,
    /// The number of NATS servers, which form a cluster if there are several; then each stream is on all of them.
    /// Default: what `HOOKWRIGHT_TEST_SERVERS` says, else 1.
    pub servers: usize,
    /// The bytes that the account may keep in files on each server. Default: no limit.
    pub account_storage: Option<u64>,
    /// The bytes of a disk of its own for the data of the first NATS server. It takes the right to mount. Default: none.
    pub disk: Option<u64>,
    /// Whether NATS servers can be cut off from each other. Default: no.
    pub isolable: bool,
    /// Who uses the tools, which decides which are needed. Default: tests.
    pub tools: Use,
    /// Called with each step when it is done, and the time that it took. By default it does nothing.
    pub progress: fn(&str, Duration),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dispatchers: 1,
            operator: json!({}),
            dispatcher: json!({}),
            egress: json!({}),
            servers: servers(),
            account_storage: None,
            disk: None,
            isolable: false,
            tools: Use::Tests,
            progress: |_, _| {},
        }
    }
}

impl Options {
    fn nats(&self) -> NatsOptions {
        let Self { servers, account_storage, disk, isolable, .. } = *self;
        NatsOptions { servers, account_storage, disk, isolable }
    }
}

/// A control plane, NATS, the operator and dispatchers, all ready. The fields are dropped in this order.
pub struct World {
    /// The dispatchers.
    pub dispatchers: Vec<Dispatcher>,
    /// The operator, with its ServiceAccount's rights.
    pub operator: Operator,
    /// NATS.
    pub nats: Nats,
    /// The API server and its clients. Worlds use it one after the other.
    pub control_plane: LentPlane,
    /// The servers and command lines.
    pub tools: Tools,
    /// The key that seals secrets in the configuration.
    pub sealing: SealingKey,
    options: Options,
    scratch: Scratch,
}

impl World {
    /// Starts everything and waits until it is ready.
    pub async fn start(options: Options) -> Result<Self> {
        let progress = options.progress;
        let tools = timed(progress, "servers and tools found", Tools::locate_for(options.tools)).await?;
        let scratch = Scratch::new()?;
        let folder = scratch.path().to_owned();
        let nats_folder = folder.join("nats");
        let start_nats = Nats::start(&tools, &nats_folder, options.nats());
        let (control_plane, nats) = tokio::try_join!(
            timed(progress, "Kubernetes API server ready", LentPlane::take(&tools)),
            timed(progress, "nats-server ready", start_nats),
        )?;
        let kubeconfig =
            timed(progress, "operator's ServiceAccount ready", control_plane.operator_kubeconfig()).await?;
        let sealing = SealingKey::generate(&folder)?;
        change_egress(&folder, &options.egress)?;
        let mut settings = json!({});
        if let Some(bytes) = options.account_storage {
            // A stream reserves its bytes.
            merge(&mut settings, &json!({ "quotas": { "defaultMaxBytes": bytes / 4 } }));
        }
        merge(&mut settings, &options.operator);
        let operator = Operator::spawn(&folder, &nats, &sealing, kubeconfig, &settings)?;
        let dispatchers = Vec::with_capacity(options.dispatchers);
        let mut world = Self { dispatchers, operator, nats, control_plane, tools, sealing, options, scratch };
        for _ in 0..world.options.dispatchers {
            world.add_dispatcher()?;
        }
        timed(progress, "operator ready", world.operator.wait_ready(READY)).await?;
        timed(progress, "dispatchers ready", world.wait_dispatchers_ready()).await?;
        Ok(world)
    }

    /// Starts one more dispatcher. It is added at the end of [`World::dispatchers`], and is not ready yet.
    pub fn add_dispatcher(&mut self) -> Result<&Dispatcher> {
        let name = format!("dispatcher-{}", self.dispatchers.len() + 1);
        let patch = &self.options.dispatcher;
        let dispatcher = Dispatcher::spawn(self.scratch.path(), &name, &self.nats, &self.sealing, patch)?;
        self.dispatchers.push(dispatcher);
        self.dispatchers.last().context("the one just added")
    }

    /// Changes the egress file by a JSON merge patch. Operator and dispatchers read it again.
    pub fn change_egress(&self, patch: &Value) -> Result<()> {
        change_egress(self.folder(), patch)
    }

    /// Puts this text in the place of the egress file.
    pub fn write_egress(&self, text: &str) -> Result<()> {
        write_egress(self.folder(), text)
    }

    /// Fails if NATS has refused something to the operator or a dispatcher since this was asked last. A world that is
    /// dropped does so by itself.
    pub fn check_rights(&self) {
        self.operator.check_rights();
        for dispatcher in &self.dispatchers {
            dispatcher.check_rights();
        }
    }

    /// The folder with settings, data and logs.
    pub fn folder(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// Creates a namespace whose name begins with `prefix` and is used by nothing else. A Producer in it may use
    /// subjects under `<namespace>.` and streams named `<namespace>_...`.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{:08x}", rand::random::<u32>());
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.control_plane.apply_json(&namespace).await?;
        // The namespace's ServiceAccount appears a moment later, and nothing here needs it.
        Ok(name)
    }

    /// Waits until one of the `producers` or `subscriptions` is Ready.
    pub async fn wait_ready(&self, namespace: &str, plural: &str, name: &str) -> Result<Value> {
        let ready = self.control_plane.wait_ready(namespace, plural, name, READY).await;
        ready.with_context(|| format!("the operator's log ends: {}", tail(&self.operator.logs())))
    }

    /// The secret (`whsec_...`) that the operator generated to sign a Subscription's deliveries with.
    pub async fn signing_secret(&self, namespace: &str, subscription: &str) -> Result<String> {
        let secret = self.control_plane.get(namespace, "secrets", &format!("{subscription}-signing")).await?;
        let encoded = secret["data"]["secret"].as_str().context("the Secret has no key `secret`")?;
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, encoded)?;
        Ok(String::from_utf8(bytes)?)
    }

    /// Waits until `check` returns true for a Subscription's status, and returns the object.
    pub async fn wait_status(
        &self,
        namespace: &str,
        subscription: &str,
        what: &str,
        deadline: Duration,
        check: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let check = |object: &Value| check(&object["status"]);
        self.control_plane.wait_until(namespace, "subscriptions", subscription, what, deadline, check).await
    }

    async fn wait_dispatchers_ready(&self) -> Result<()> {
        for dispatcher in &self.dispatchers {
            dispatcher.wait_ready(READY).await?;
        }
        Ok(())
    }
}

async fn timed<T>(progress: fn(&str, Duration), step: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let start = Instant::now();
    let result = work.await?;
    progress(step, start.elapsed());
    Ok(result)
}

fn tail(logs: &str) -> &str {
    let start = logs.len().saturating_sub(2000);
    let start = (start..=logs.len()).find(|at| logs.is_char_boundary(*at)).unwrap_or(0);
    &logs[start..]
}
