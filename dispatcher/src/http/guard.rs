//! The egress guard for names. It hands only vetted addresses to be dialled. One forbidden address refuses the whole
//! answer. IPv4 and IPv6 addresses come as two answers, and each is vetted for itself. IP literals never come here:
//! `Endpoint::prepare` has checked them.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use hookwright_core::destination::egress::EgressPolicy;

use crate::http::failure::Failure;
use crate::settings::DnsSettings;

/// Resolves names and vets their addresses.
#[derive(Clone)]
pub(crate) struct Guard {
    resolver: TokioResolver,
}

impl Guard {
    pub(crate) fn new(dns: &DnsSettings) -> anyhow::Result<Self> {
        let builder = if dns.nameservers.is_empty() {
            TokioResolver::builder_tokio().context("can't read the system's DNS configuration: set dns.nameservers")?
        } else {
            let servers = dns.nameservers.iter().copied().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let resolver = builder.build().context("can't start the DNS resolver")?;
        Ok(Self { resolver })
    }

    /// The addresses of the name in one family, `A` or `AAAA`, vetted by these rules.
    ///
    /// # Errors
    /// If the name has none, or one that is forbidden.
    pub(crate) async fn addresses(
        &self,
        rules: &EgressPolicy,
        host: &str,
        family: RecordType,
    ) -> Result<Vec<IpAddr>, Failure> {
        // The name is fully qualified: a search domain must not turn `kubernetes.default` into a cluster service.
        let name = if host.ends_with('.') { host.to_owned() } else { format!("{host}.") };
        // Read as host names of the Internet, names with an underscore would be refused. Private ones have it.
        let name = Name::from_ascii(name).map_err(|error| Failure::Name(error.into()))?;
        let answer = self.resolver.lookup(name, family).await.map_err(Failure::Name)?;
        let addresses: Vec<_> = answer.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        for address in &addresses {
            rules.check_address(*address).map_err(Failure::Blocked)?;
        }
        if addresses.is_empty() { Err(Failure::NoAddress) } else { Ok(addresses) }
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
