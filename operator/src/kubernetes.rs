//! The client of the Kubernetes API, how much it asks for, and what the API server's answers mean.

pub(crate) mod answer;
pub mod limit;
mod retries;

use anyhow::Context;
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::client::ClientBuilder;
use kube::{Client, Config};

use limit::{LimitLayer, RequestLimits, Requests};

/// The name under which the operator writes.
pub(crate) const RECONCILER: &str = "hookwright-operator";

/// Connects as the environment says, for a task that is done once.
///
/// # Errors
/// If the environment names no API server, or the credentials can't be read.
pub async fn client() -> anyhow::Result<Client> {
    limited(RequestLimits::default(), Requests::default()).await
}

/// Connects as the environment says. The API server names writes without a field manager by the user agent.
pub(crate) async fn limited(limits: RequestLimits, requests: Requests) -> anyhow::Result<Client> {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = async {
        let mut config = Config::infer().await?;
        config.headers.push((USER_AGENT, HeaderValue::from_static(RECONCILER)));
        // The client's own retries are up to 15, for minutes, and within one turn.
        config.default_retry = false;
        let layers = retries::around(LimitLayer::new(limits, requests))?;
        anyhow::Ok(ClientBuilder::try_from(config)?.with_layer(&layers).build())
    };
    client.await.context("no access to Kubernetes")
}
