//! Opens connections to endpoints. The guard resolves names, and the whole connect, TLS included, has a time limit.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use tokio::time::timeout;
use tower::{BoxError, Service};

use crate::http::guard::Guard;

type Https = HttpsConnector<HttpConnector<Guard>>;

/// How long opening a connection may take. The attempt may have less time.
const CONNECT: Duration = Duration::from_secs(10);
/// How often an idle connection is probed, and after how many unanswered probes it is given up.
const KEEPALIVE: (Duration, u32) = (Duration::from_secs(15), 3);
#[cfg(target_os = "linux")]
/// How long sent bytes may stay unacknowledged by the peer's kernel before the connection ends.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The connector of the HTTP client, which clones it twice for each request.
#[derive(Clone)]
pub(crate) struct Dial(Arc<Https>);

impl Dial {
    pub(crate) fn new(guard: Guard) -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new_with_resolver(guard);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // The connector divides this time among the addresses of a name.
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(KEEPALIVE.0));
        tcp.set_keepalive_interval(Some(KEEPALIVE.0));
        tcp.set_keepalive_retries(Some(KEEPALIVE.1));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_native_roots()
            .context("no CA certificates on this system")?
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(HttpsConnector::from((tcp, tls)))))
    }
}

impl Service<Uri> for Dial {
    type Response = <Https as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The connector below is always ready, too.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialling = Https::clone(&self.0).call(uri);
        Box::pin(async move { timeout(CONNECT, dialling).await? })
    }
}
