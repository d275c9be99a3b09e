//! `make-secrets`: makes the Secrets that an installation needs and was not given, before anything starts. It has a
//! ServiceAccount of its own, for the operator's may create only Secrets of Subscriptions.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use ring::rand::{SecureRandom, SystemRandom};
use tracing::info;

/// The users of the NATS that comes with the chart.
const NATS_USERS: [&str; 5] = ["operator", "dispatcher", "app", "reader", "sys"];

/// Which Secrets to make. One that exists stays as it is.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The namespace of the Secrets.
    #[arg(long)]
    namespace: String,
    /// The Secret for the key that seals secrets between operator and dispatchers.
    #[arg(long)]
    sealing_key: Option<String>,
    /// The Secret for the passwords of the users of NATS.
    #[arg(long)]
    nats_passwords: Option<String>,
}

/// Makes the Secrets that don't exist.
///
/// # Errors
/// If one can't be read or created, or exists without a key that it needs.
pub async fn run(arguments: Arguments, client: Client) -> anyhow::Result<()> {
    let api: Api<Secret> = Api::namespaced(client, &arguments.namespace);
    if let Some(name) = arguments.sealing_key {
        let key = BASE64_STANDARD.encode(random::<32>()?);
        ensure(&api, &name, [("sealing.key", key)].into()).await?;
    }
    if let Some(name) = arguments.nats_passwords {
        let mut passwords = BTreeMap::new();
        for user in NATS_USERS {
            // The server's configuration reads what begins with a letter as text.
            passwords.insert(user, format!("p{:032x}", u128::from_be_bytes(random()?)));
        }
        ensure(&api, &name, passwords).await?;
    }
    Ok(())
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok().context("the system gives no random bytes")?;
    Ok(bytes)
}

/// Creates the Secret, or checks that the one that exists has a value for each of these keys.
async fn ensure(api: &Api<Secret>, name: &str, data: BTreeMap<&str, String>) -> anyhow::Result<()> {
    let read = async || api.get_opt(name).await.with_context(|| format!("can't read the Secret {name}"));
    let existing = match read().await? {
        Some(secret) => secret,
        None => match api.create(&PostParams::default(), &secret(name, &data)).await {
            Ok(_) => {
                info!(secret = name, "made");
                return Ok(());
            }
            // Another writer was faster.
            Err(kube::Error::Api(status)) if status.is_already_exists() => read().await?.context("it was deleted")?,
            Err(error) => return Err(error).with_context(|| format!("can't create the Secret {name}")),
        },
    };
    let has = |key: &str| existing.data.iter().flatten().any(|(name, value)| name == key && !value.0.is_empty());
    if let Some(missing) = data.keys().find(|key| !has(key)) {
        bail!("the Secret {name} exists and has no key {missing:?}: add it, or delete the Secret to have it made anew");
    }
    info!(secret = name, "kept");
    Ok(())
}

fn secret(name: &str, data: &BTreeMap<&str, String>) -> Secret {
    let label = |name: &str| (format!("app.kubernetes.io/{name}"), "hookwright".to_owned());
    let bytes = |(key, value): (&&str, &String)| ((*key).to_owned(), ByteString(value.clone().into_bytes()));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(["part-of", "managed-by"].map(label).into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data.iter().map(bytes).collect()),
        ..Secret::default()
    }
}
