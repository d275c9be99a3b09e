//! Opens connections to endpoints. The guard resolves and vets names, and the whole connect, TLS included, has a time
//! limit.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;
use hookwright_runtime::egress::InForce;
use rustls::{ClientConfig, RootCertStore};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::http::connection::Stream;
use crate::http::endpoint::{Name, Origin};
use crate::http::eyeballs;
use crate::http::failure::Failure;
use crate::http::guard::Guard;
use crate::http::proxy::{Proxy, Tunnel};

/// How long opening a connection may take. The attempt may have less time.
const CONNECT: Duration = Duration::from_secs(10);
/// How often an idle connection is probed, and after how many unanswered probes it is given up.
const KEEPALIVE: (Duration, u32) = (Duration::from_secs(15), 3);
#[cfg(target_os = "linux")]
/// How long sent bytes may stay unacknowledged by the peer's kernel before the connection ends.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Opens connections.
pub(crate) struct Dialer {
    guard: Guard,
    /// The egress rules in force, which name the proxy.
    egress: InForce,
    tls: TlsConnector,
}

impl Dialer {
    pub(crate) fn new(guard: Guard, egress: InForce) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        let (valid, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        anyhow::ensure!(valid > 0, "no CA certificates on this system");
        let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { guard, egress, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// Opens a connection to a vetted address of the origin.
    pub(crate) async fn dial(&self, origin: &Origin) -> Result<Stream, Failure> {
        timeout(CONNECT, self.open(origin)).await.unwrap_or(Err(Failure::ConnectTimedOut))
    }

    async fn open(&self, origin: &Origin) -> Result<Stream, Failure> {
        let proxy = self.egress.borrow().egress.proxy().map(Proxy::new).transpose().map_err(Failure::Proxy)?;
        if let Some((proxy, host)) = proxy.zip(origin.host.by_proxy()) {
            return self.open_by(&proxy, &host, origin).await;
        }
        let tcp = match &origin.host {
            Name::Address(address) | Name::Service(address) => connect(*address, origin.port).await?,
            Name::Domain(name) => {
                let resolve = |family| self.guard.addresses(&origin.rules.0, name, family);
                let (v6, v4) = (resolve(RecordType::AAAA), resolve(RecordType::A));
                eyeballs::connect(v6, v4, |address| connect(address, origin.port)).await?
            }
        };
        match &origin.tls {
            None => Ok(Stream::Plain(tcp)),
            Some(name) => {
                let tls = self.tls.connect(name.clone(), tcp).await.map_err(Failure::Tls)?;
                Ok(Stream::Tls(Box::new(tls)))
            }
        }
    }

    /// Has the proxy connect to the origin. TLS is between this process and the origin.
    async fn open_by(&self, proxy: &Proxy, host: &str, origin: &Origin) -> Result<Stream, Failure> {
        let tunnel = proxy.connect(&self.tls, host, origin.port).await.map_err(Failure::Proxy)?;
        match (tunnel, &origin.tls) {
            (Tunnel::Plain(tcp), None) => Ok(Stream::Plain(tcp)),
            (Tunnel::Tls(tls), None) => Ok(Stream::Tls(tls)),
            (Tunnel::Plain(tcp), Some(name)) => {
                let tls = self.tls.connect(name.clone(), tcp).await.map_err(Failure::Tls)?;
                Ok(Stream::Tls(Box::new(tls)))
            }
            (Tunnel::Tls(outer), Some(name)) => {
                let tls = self.tls.connect(name.clone(), *outer).await.map_err(Failure::Tls)?;
                Ok(Stream::Nested(Box::new(tls)))
            }
        }
    }
}

async fn connect(address: IpAddr, port: u16) -> Result<TcpStream, Failure> {
    let address = SocketAddr::new(address, port);
    let connect = async {
        let tcp = TcpStream::connect(address).await?;
        set_options(&tcp)?;
        io::Result::Ok(tcp)
    };
    connect.await.map_err(|error| Failure::Connect(address, error))
}

pub(crate) fn set_options(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.0).with_retries(KEEPALIVE.1);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}
