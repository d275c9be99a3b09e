//! The HTTP client of the references and of the bench itself: the dispatchers' client without their egress guard.

use std::sync::Arc;
use std::task::{Context as Ready, Poll};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use tower::Service;

/// How long an exchange may take: the default timeout of an attempt.
const TIMEOUT: Duration = Duration::from_secs(15);

type Https = HttpsConnector<HttpConnector>;

/// The connector. The client clones it for each request, which costs one reference count, as in the dispatchers.
#[derive(Clone)]
struct Dial(Arc<Https>);

impl Service<Uri> for Dial {
    type Response = <Https as Service<Uri>>::Response;
    type Error = <Https as Service<Uri>>::Error;
    type Future = <Https as Service<Uri>>::Future;

    fn poll_ready(&mut self, _: &mut Ready<'_>) -> Poll<Result<(), Self::Error>> {
        // The connector below is always ready, too.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Https::clone(&self.0).call(uri)
    }
}

/// The HTTP client. It keeps 64 idle connections for each host.
#[derive(Clone)]
pub(crate) struct Client(legacy::Client<Dial, Full<Bytes>>);

impl Client {
    pub(crate) fn new() -> Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .context("no CA certificates on this system")?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(64)
            .pool_idle_timeout(Duration::from_secs(30))
            .build(Dial(Arc::new(tls)));
        Ok(Self(client))
    }

    /// Sends a request and returns the body of the answer. Any status but a 2xx is an error.
    pub(crate) async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes> {
        let uri = request.uri().clone();
        let exchange = async {
            let answer = self.0.request(request).await?;
            ensure!(answer.status().is_success(), "answered with {}", answer.status());
            Ok(answer.into_body().collect().await?.to_bytes())
        };
        timeout(TIMEOUT, exchange).await.map_err(Into::into).flatten().with_context(|| uri.to_string())
    }
}
