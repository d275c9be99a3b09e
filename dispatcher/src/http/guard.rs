//! The egress guard for names. It resolves each name once and hands only vetted addresses to the connector. One
//! forbidden address refuses the whole answer. IP literals never come here: `Endpoint::prepare` has checked them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Context as _;
use futures::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hookwright_core::destination::egress::EgressPolicy;
use hyper_util::client::legacy::connect::dns::Name;
use tower::{BoxError, Service};

use crate::settings::DnsSettings;

/// The vetted addresses of a name. The port is set later, from the URL.
type Addresses = std::vec::IntoIter<SocketAddr>;

/// Resolves names for the HTTP client.
#[derive(Clone)]
pub(crate) struct Guard {
    resolver: TokioResolver,
    policy: Arc<EgressPolicy>,
}

impl Guard {
    pub(crate) fn new(dns: &DnsSettings, policy: EgressPolicy) -> anyhow::Result<Self> {
        let mut builder = if dns.nameservers.is_empty() {
            TokioResolver::builder_tokio().context("can't read the system's DNS configuration: set dns.nameservers")?
        } else {
            let servers = dns.nameservers.iter().copied().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder.build().context("can't start the DNS resolver")?;
        Ok(Self { resolver, policy: Arc::new(policy) })
    }

    async fn resolve(self, host: Name) -> Result<Addresses, BoxError> {
        // The name is fully qualified: a search domain must not turn `kubernetes.default` into a cluster service.
        let host = host.as_str();
        let name = if host.ends_with('.') { host.to_owned() } else { format!("{host}.") };
        let answer = self.resolver.lookup_ip(name).await?;
        let addresses: Vec<_> = answer.iter().map(|address| SocketAddr::new(address, 0)).collect();
        for address in &addresses {
            self.policy.check_address(address.ip())?;
        }
        Ok(addresses.into_iter())
    }
}

impl Service<Name> for Guard {
    type Response = Addresses;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Addresses, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().resolve(name))
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}
