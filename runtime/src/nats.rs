//! The connection to NATS, and the check of the features that the server must have.

mod login;
mod stranded;

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::context::{AccountError, AccountErrorKind, GetStreamError, KeyValueError};
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, Event};
use hookwright_core::nats::installation::Names;
use serde::Deserialize;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The settings of the connection to NATS.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NatsSettings {
    /// The URL of the server, such as `nats://host:4222`, or several URLs with commas between them.
    pub url: String,
    /// The user name. It needs `passwordFile`.
    pub user: Option<String>,
    /// The file with the user's password.
    pub password_file: Option<PathBuf>,
    /// The file with the user's JWT and seed, instead of user and password.
    pub credentials_file: Option<PathBuf>,
    /// The file with an nkey's seed, instead of user and password.
    pub nkey_file: Option<PathBuf>,
    /// The file with the CA that signed the server's certificate, if it is not a public CA. With it, TLS is required.
    pub ca_file: Option<PathBuf>,
    /// The file with the client's certificate. It needs `clientKeyFile`, and with it TLS is required.
    pub client_certificate_file: Option<PathBuf>,
    /// The file with the key of the client's certificate.
    pub client_key_file: Option<PathBuf>,
    /// The prefix of the inbox subjects. Each user has its own, so that no user reads another's replies.
    pub inbox_prefix: String,
    /// Which of several installations in the account this is. It is not read with the others: see `installation.prefix`.
    #[serde(skip)]
    pub names: Names,
}

/// Why NATS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    #[error("can't read {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error(
        "the settings of nats need both user and passwordFile, or only credentialsFile, or only nkeyFile, or none of them"
    )]
    Credentials,
    #[error("the settings of nats need both clientCertificateFile and clientKeyFile, or none of them")]
    ClientCertificate,
    #[error("{path} has no seed of an nkey, or is no credentials file")]
    Seed { path: PathBuf },
    #[error(
        "NATS server {version} is too old: upgrade every server to 2.12.7 or newer; older ones have no scheduled messages, \
         or faults by which a scheduled message never comes due"
    )]
    TooOld { version: String },
    #[error(
        "JetStream is not enabled on the NATS server, or not for this account: enable it (jetstream {{}} in the \
         server's configuration)"
    )]
    NoJetStream,
}

/// The connection to NATS, with JetStream and a counter of connects.
#[derive(Clone)]
pub struct Nats {
    pub client: Client,
    pub jetstream: Context,
    /// How often the client has connected. The number changes with each reconnect.
    pub connected: watch::Receiver<u64>,
    /// The names of what this installation has in NATS.
    pub names: Names,
}

impl Nats {
    /// The stream of this name, which is one of [`names`](hookwright_core::nats::names).
    ///
    /// # Errors
    /// If there is no such stream, or its leader does not answer.
    pub async fn stream(&self, own: &str) -> Result<Stream, GetStreamError> {
        self.jetstream.get_stream(&*self.names.stream(own)).await
    }

    /// The bucket of this name, which is one of [`names`](hookwright_core::nats::names).
    ///
    /// # Errors
    /// If there is no such bucket, or its leader does not answer.
    pub async fn bucket(&self, own: &str) -> Result<Store, KeyValueError> {
        self.jetstream.get_key_value(self.names.stream(own)).await
    }

    /// Whether the connection has ended for good; see [`Self::ended`].
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.connected.has_changed().is_err()
    }

    /// Waits until the connection has ended for good. The client reconnects as long as it takes, so this returns only if
    /// the task of its connection has panicked, at a header that it can't represent for example. Meanwhile the client
    /// leaves a server from which JetStream is out of reach.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.watch() => {}
            never = stranded::leave(&self.client, &self.jetstream) => match never {},
        }
    }

    /// Logs if a reconnect has led to a server that is too old, until the connection has ended for good: to end the
    /// process then would not help, because streams may be led by that server anyway.
    async fn watch(&self) {
        let mut connected = self.connected.clone();
        connected.mark_unchanged();
        while connected.changed().await.is_ok() {
            // The client knows the new server once it has processed this.
            let _ = self.client.flush().await;
            if let Err(too_old) = check_server(&self.client) {
                error!("{too_old}");
            }
        }
    }
}

/// The oldest server that will do. Scheduled messages came with 2.12.0. Before 2.12.2 a server misses a header behind
/// one whose name ends alike (nats-server #7465), and in 2.12.0 the timer of schedules may never fire (#7347). 2.12.7 is the
/// lowest 2.12 with the known security fixes.
const OLDEST: (i64, i64, i64) = (2, 12, 7);

/// The longest wait between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);
/// The time between two pings. When two have no answer, the client ends the connection instead of a third. So it notices
/// within 6 s that its server hangs or is cut off, and goes over to another.
const PING: Duration = Duration::from_secs(2);

/// Connects to NATS and checks the features of the server. It waits for the server as long as it takes.
///
/// # Errors
/// If the settings are wrong, a file can't be read, or the server lacks a feature that Hookwright needs.
pub async fn connect(settings: &NatsSettings, name: &str) -> Result<Nats, NatsError> {
    let (counter, connected) = watch::channel(0);
    loop {
        let counter = counter.clone();
        let options = login::options(settings)
            .await?
            .name(name)
            .custom_inbox_prefix(&settings.inbox_prefix)
            .ping_interval(PING)
            .reconnect_delay_callback(|attempts| Duration::from_millis(50 << attempts.min(5)).min(RETRY))
            .event_callback(move |event| {
                let counter = counter.clone();
                async move {
                    match event {
                        Event::Connected => counter.send_modify(|n| *n += 1),
                        other => warn!(event = %other, "NATS"),
                    }
                }
            });
        let addresses: Vec<&str> = settings.url.split(',').map(str::trim).collect();
        match options.connect(addresses).await {
            Ok(client) => {
                let jetstream = require_server(&client).await?;
                info!(server = client.server_info().version, "connected to NATS");
                return Ok(Nats { client, jetstream, connected, names: settings.names.clone() });
            }
            Err(error) => {
                warn!(url = settings.url, error = crate::logging::chain(&error), "waiting for NATS");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn check_server(client: &Client) -> Result<(), NatsError> {
    let (major, minor, patch) = OLDEST;
    match client.is_server_compatible(major, minor, patch) {
        true => Ok(()),
        false => Err(NatsError::TooOld { version: client.server_info().version }),
    }
}

/// Refuses servers without the features that Hookwright needs. Older servers would accept settings that they don't
/// know, and silently drop them.
async fn require_server(client: &Client) -> Result<Context, NatsError> {
    check_server(client)?;
    let jetstream = jetstream::new(client.clone());
    let disabled = |error: &AccountError| match error.kind() {
        // A cluster without a leader answers this, too, for a while. Its servers then still announce JetStream.
        AccountErrorKind::JetStreamUnavailable => !client.server_info().jetstream,
        AccountErrorKind::JetStream(error) => {
            matches!(
                error.error_code(),
                ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT | ErrorCode::JETSTREAM_NOT_ENABLED
            )
        }
        _ => false,
    };
    loop {
        match jetstream.query_account().await {
            Ok(_) => return Ok(jetstream),
            Err(error) if disabled(&error) => return Err(NatsError::NoJetStream),
            Err(error) => {
                warn!(error = crate::logging::chain(&error), "waiting for JetStream");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
