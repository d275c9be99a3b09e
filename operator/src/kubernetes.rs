//! The client of the Kubernetes API, and what the API server's answers mean.

pub(crate) mod answer;

use anyhow::Context;
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::{Client, Config};

/// The name under which the operator writes.
pub(crate) const RECONCILER: &str = "hookwright-operator";

/// Connects as the environment says. The API server names writes without a field manager by the user agent.
///
/// # Errors
/// If the environment names no API server, or the credentials can't be read.
pub async fn client() -> anyhow::Result<Client> {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = async {
        let mut config = Config::infer().await?;
        config.headers.push((USER_AGENT, HeaderValue::from_static(RECONCILER)));
        anyhow::Ok(Client::try_from(config)?)
    };
    client.await.context("no access to Kubernetes")
}
